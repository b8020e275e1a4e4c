(sleep 8; printf "late\n") &
(sleep 8; printf "later\n" >&2) &
printf "main is done\n"
