false
printf "going on\n"
(exit 7)
