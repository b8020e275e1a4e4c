printf "%s\n" "$B" "$C" "$D"
