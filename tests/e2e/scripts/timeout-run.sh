trap 'printf "last words\n"; exit 3' TERM
printf "started\n"
sleep 60 &
wait
printf "never\n"
