awk 'BEGIN { s = sprintf("%1023s", ""); gsub(/ /, "z", s); for (i = 0; i < 2048; i++) print s }'
printf '\n'
