awk 'BEGIN { s = sprintf("%999s", ""); gsub(/ /, "x", s); for (i = 0; i < 10000; i++) print s }'
