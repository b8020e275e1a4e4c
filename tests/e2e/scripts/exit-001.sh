printf "about to exit 1\n"
exit 1
