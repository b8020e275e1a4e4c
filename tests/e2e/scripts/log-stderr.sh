printf "on standard error\n" >&2
