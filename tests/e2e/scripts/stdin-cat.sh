cat
printf "cat gave %s\n" "$?"
