name=world
cat <<EOF
Hello, $name: $(printf nested) $((6 * 7))
EOF
cat <<-"EOF"
	not $expanded
	EOF
