trap 'printf "again\n"; trap - INT; kill -INT $$' INT
kill -INT $$
