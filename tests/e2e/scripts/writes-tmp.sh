file=$(mktemp /tmp/e2e.XXXXXX)
printf "in tmp\n" >"$file"
cat "$file"
rm "$file"
