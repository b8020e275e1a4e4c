printf "before\n"
kill -ILL $$
printf "survived\n"
