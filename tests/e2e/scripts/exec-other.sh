printf "about to become another program\n"
exec sh -c "printf 'replaced\n'; exit 13"
