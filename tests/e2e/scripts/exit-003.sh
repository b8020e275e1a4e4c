printf "about to exit 3\n"
exit 3
