#!/usr/bin/env bash
# Runs as the first process in the node's mount namespace: furnishes it, then holds it open.
# Arguments: the cluster's folder, where to show it, and the kernel settings to cover.
set -euo pipefail

home=$1 shown_at=$2
shift 2

# By descriptor, in case the folder itself is below one of the covered ones.
exec 8<"$home"
for covered in /run /var/lib /var/log; do
    mount -t tmpfs -o mode=755 tmpfs "$covered"
done
mkdir -p "$shown_at" /run/lock /run/netns
mount --bind "/proc/$$/fd/8" "$shown_at"
exec 8<&-

for setting in "$@"; do
    # A kernel without the setting has nothing to protect.
    if [[ -e /proc/sys/$setting ]]; then
        mount --bind "$shown_at/state/kernel/$setting" "/proc/sys/$setting"
    fi
done

touch "$shown_at/state/furnished"
exec sleep infinity
