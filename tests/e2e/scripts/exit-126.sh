printf "about to exit 126\n"
exit 126
