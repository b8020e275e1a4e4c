printf "%s\n" "${#LARGE}"
