printf "about to exit 0\n"
exit 0
