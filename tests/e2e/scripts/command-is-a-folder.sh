mkdir folder
./folder 2>/dev/null
