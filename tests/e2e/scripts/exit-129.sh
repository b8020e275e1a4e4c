printf "about to exit 129\n"
exit 129
