@FILL@
printf "ran after the padding\n"
