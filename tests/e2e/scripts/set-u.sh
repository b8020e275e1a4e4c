set -u
printf "one\n"
printf "%s\n" "$undefined_variable"
printf "two\n"
