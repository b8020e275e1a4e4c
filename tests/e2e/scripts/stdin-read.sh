if read -r line; then printf "got <%s>\n" "$line"; else printf "end of input\n"; fi
