trap 'printf "last words\n"; sleep 0.5; exit 3' TERM
printf "started\n"
sleep 60 &
wait
printf "never\n"
