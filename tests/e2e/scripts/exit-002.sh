printf "about to exit 2\n"
exit 2
