printf "before\n"
kill -FPE $$
printf "survived\n"
