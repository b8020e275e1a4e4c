printf "never\n"
