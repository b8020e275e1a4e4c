trap 'printf "cleaned up\n"' EXIT
printf "working\n"
exit 5
