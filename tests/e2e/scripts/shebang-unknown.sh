#!/no/such/interpreter
printf "never\n"
