trap "" TERM HUP
kill -TERM $$
kill -HUP $$
printf "still here\n"
