printf "before\n"
kill -SEGV $$
printf "survived\n"
