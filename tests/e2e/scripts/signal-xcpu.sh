printf "before\n"
kill -XCPU $$
printf "survived\n"
