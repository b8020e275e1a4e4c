head -c 20000000 /dev/zero >large
wc -c <large | tr -d " "
rm large
