printf "about to exit 128\n"
exit 128
