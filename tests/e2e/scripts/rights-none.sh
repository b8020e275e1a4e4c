id -u
id -g
grep -E "^(CapPrm|CapEff|CapBnd|NoNewPrivs|Seccomp):" /proc/self/status | tr -s "\t" " "
for path in / /bin /etc /usr /var /dev /proc/sys/kernel/hostname; do
  (echo x >"$path/probe" || echo x >"$path") 2>/dev/null && echo "written: $path"
done
(mount -t tmpfs none /tmp || chroot / true || busybox su -c true || mknod /tmp/device c 1 3) 2>/dev/null && echo "has become more"
ls /var/run/secrets/kubernetes.io 2>/dev/null
echo "$HOME"
echo mine >"$HOME/mine" && cat "$HOME/mine"
