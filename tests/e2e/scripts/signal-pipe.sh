printf "before\n"
kill -PIPE $$
printf "survived\n"
