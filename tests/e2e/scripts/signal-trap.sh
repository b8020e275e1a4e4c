printf "before\n"
kill -TRAP $$
printf "survived\n"
