fib() { if [ "$1" -lt 2 ]; then printf "%s" "$1"; else printf "%s" "$(( $(fib $(($1 - 1))) + $(fib $(($1 - 2))) ))"; fi; }
printf "%s\n" "$(fib 10)"
