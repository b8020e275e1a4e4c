trap 'printf "caught TERM\n"; exit 6' TERM
kill -TERM $$
printf "not reached\n"
