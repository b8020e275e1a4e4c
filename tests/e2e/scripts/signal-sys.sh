printf "before\n"
kill -SYS $$
printf "survived\n"
