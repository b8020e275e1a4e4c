printf "<%s>\n" "$NEWLINES" "$QUOTES" "$UNICODE" "$EMPTY" "$SPACES" "$_underscore1"
printf "%s\n" "${EMPTY+set}"
