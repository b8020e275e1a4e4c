printf "before\n"
if true; then
