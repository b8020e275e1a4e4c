. /workspace/lib/functions.sh
greet "$1"
