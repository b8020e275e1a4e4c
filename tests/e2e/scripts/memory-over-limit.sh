a=xxxxxxxxxxxxxxxx
while :; do a="$a$a"; done
