printf "before\n"
kill -HUP $$
printf "survived\n"
