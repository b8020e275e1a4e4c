trap 'printf "caught QUIT\n"; exit 131' QUIT
kill -QUIT $$
