sleep 1
printf "in time\n"
