printf "before\n"
kill -ABRT $$
printf "survived\n"
