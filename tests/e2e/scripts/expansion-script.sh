FOO() { printf "function"; }
printf "%s\n" "$(FOO)"
printf "%s\n" "$$""(FOO)" | sed "s/^[0-9]*//"
printf "%s\n" '$(FOO) $$(FOO) $(KUBERNETES_SERVICE_HOST)'
