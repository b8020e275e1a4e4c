printf "one\n"
true
