

   
printf "late start\n"
