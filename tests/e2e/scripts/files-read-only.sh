(echo other >/workspace/config/app.ini) 2>/dev/null && echo written
cat /workspace/config/app.ini
