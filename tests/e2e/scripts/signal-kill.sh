printf "before\n"
kill -KILL $$
printf "survived\n"
