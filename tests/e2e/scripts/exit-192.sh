printf "about to exit 192\n"
exit 192
