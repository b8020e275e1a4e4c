printf "before\n"
kill -BUS $$
printf "survived\n"
