awk 'BEGIN { for (i = 1; i < 256; i++) printf "\\%03o\n", i }' | while IFS= read -r octal; do printf "$octal"; done
