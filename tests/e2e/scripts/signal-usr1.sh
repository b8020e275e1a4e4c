printf "before\n"
kill -USR1 $$
printf "survived\n"
