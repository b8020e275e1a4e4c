@FILL@
printf "%s\n" "$#" "$1"
