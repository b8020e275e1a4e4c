printf "about to exit 130\n"
exit 130
