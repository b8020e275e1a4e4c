printf "before\n"
kill -INT $$
printf "survived\n"
