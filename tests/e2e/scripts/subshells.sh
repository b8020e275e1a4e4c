x=1
(x=2; printf "inner %s\n" "$x")
printf "outer %s\n" "$x"
{ x=3; }
printf "%s\n" "$x"
