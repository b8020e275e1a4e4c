set -e
printf "one\n"
false
printf "two\n"
