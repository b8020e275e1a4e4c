nohup sh -c "sleep 8; echo late" >/dev/null 2>&1 &
printf "main is done\n"
exit 4
