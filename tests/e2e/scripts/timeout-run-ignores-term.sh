trap "" TERM
printf "stubborn\n"
while :; do sleep 0.2; done
