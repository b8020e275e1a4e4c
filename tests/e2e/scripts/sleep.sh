printf "Hello\n"
sleep 1
printf "Done\n"
