cat /workspace/config/app.ini
wc -c </workspace/data.bin | tr -d " "
od -An -tu1 /workspace/data.bin | tr -s " \n" " "
printf "\n"
