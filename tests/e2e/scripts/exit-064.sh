printf "about to exit 64\n"
exit 64
