awk 'BEGIN { s = sprintf("%1000s", ""); gsub(/ /, "l", s); for (i = 0; i < 1000; i++) printf "%s", s; printf "\n" }'
