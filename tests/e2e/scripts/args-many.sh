printf "%s %s\n" "$#" last
shift 499
printf "%s\n" "$1"
