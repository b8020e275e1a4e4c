printf "started\n"
sleep 60
printf "never\n"
