printf "before\n"
kill -TERM $$
printf "survived\n"
