printf "about to exit 160\n"
exit 160
