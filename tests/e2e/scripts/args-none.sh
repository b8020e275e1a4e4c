printf "%s args\n" "$#"
