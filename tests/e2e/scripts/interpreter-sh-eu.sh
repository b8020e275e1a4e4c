printf "%s\n" "$1"
false
printf "never\n"
