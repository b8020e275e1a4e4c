wc -c </workspace/large.txt | tr -d " "
