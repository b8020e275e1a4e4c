printf "about to exit 42\n"
exit 42
