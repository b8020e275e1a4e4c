(sleep 0.3; exit 9) &
wait $!
code=$?
printf "child gave %s\n" "$code"
exit "$code"
