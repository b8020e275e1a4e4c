set -e
false | cat
printf "a pipeline has the code of its last command\n"
printf "x\n" | grep -q y
printf "never\n"
