head -c 60000000 /dev/zero >large
sleep 100
