printf "\n\n\n"
