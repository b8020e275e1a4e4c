yes 2>/dev/null | head -n 2
printf "done\n"
