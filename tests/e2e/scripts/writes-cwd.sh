printf "kept\n" >out.txt
mkdir -p a/b
cp out.txt a/b/copy.txt
cat a/b/copy.txt
rm -r a out.txt
ls -A | grep -c txt
exit 0
