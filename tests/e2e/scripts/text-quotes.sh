cat <<'EOF'
'single' "double" `ticks` $dollar \back\\slash %d {{ braces }} ${x} !bang
EOF
