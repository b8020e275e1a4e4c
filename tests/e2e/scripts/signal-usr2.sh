printf "before\n"
kill -USR2 $$
printf "survived\n"
