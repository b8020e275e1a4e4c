awk 'BEGIN { s = sprintf("%1023s", ""); gsub(/ /, "y", s); for (i = 0; i < 2048; i++) print s }'
