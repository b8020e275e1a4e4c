printf "mine\n" >/workspace/config/mine.txt
cat /workspace/config/app.ini /workspace/config/mine.txt
rm /workspace/config/mine.txt
mkdir /workspace/config/more && rmdir /workspace/config/more
