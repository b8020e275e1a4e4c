printf "before\n"
kill -ALRM $$
printf "survived\n"
