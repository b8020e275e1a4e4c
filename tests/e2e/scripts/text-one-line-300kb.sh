printf "%s" "@FILL@" | wc -c | tr -d " "
