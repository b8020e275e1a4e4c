# The two container images, made by hand from the machine's static busybox, since no image registry
# is asked for anything. Sourced by scripts/cluster, as is scripts/pack-image.sh.
# shellcheck shell=bash disable=SC2034,SC2154 # names are shared with scripts/cluster

readonly BUSYBOX_IMAGE=docker.io/library/busybox:1.37
readonly PAUSE_IMAGE=executor.test/pause:1
# With shareProcessNamespace this is PID 1 of the pod: it takes in orphans (`wait` reaps them) and
# ends when told to, as Kubernetes' own pause does.
readonly PAUSE_SCRIPT='trap "exit 0" TERM INT; while :; do sleep 2147483647 & wait; done'

create_images() {
    local work=$STATE/images
    mkdir -p "$work"
    busybox_root "$work/busybox-root"
    pack_image "$BUSYBOX_IMAGE" "$work/busybox-root" '"Cmd": ["sh"]' "$work/busybox.tar"
    mkdir -p "$work/pause-root/bin"
    cp "$(static_busybox)" "$work/pause-root/bin/busybox"
    ln -s busybox "$work/pause-root/bin/sleep"
    pack_image "$PAUSE_IMAGE" "$work/pause-root" \
        "\"Entrypoint\": [\"/bin/busybox\", \"sh\", \"-c\", \"${PAUSE_SCRIPT//\"/\\\"}\"]" "$work/pause.tar"
    rm -rf "$work/busybox-root" "$work/pause-root"
}

# Lays out what scripts expect of docker.io/library/busybox: all applets in /bin, /usr/bin/env, users, /tmp.
busybox_root() {
    local root=$1
    mkdir -p "$root"/{bin,dev,etc,home,proc,root,sys,tmp,usr/bin,usr/sbin,var/spool/mail,var/www}
    chmod 1777 "$root/tmp"
    chmod 700 "$root/root"
    cp "$(static_busybox)" "$root/bin/busybox"
    "$root/bin/busybox" --install "$root/bin"
    ln -s ../../bin/env "$root/usr/bin/env"
    cat >"$root/etc/passwd" <<'PASSWD'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
sync:x:4:100:sync:/bin:/bin/sync
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
PASSWD
    cat >"$root/etc/group" <<'GROUP'
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
mail:x:8:
www-data:x:33:
users:x:100:
nogroup:x:65534:
GROUP
}

# Needs containerd to answer.
import_images() {
    local image
    for image in busybox pause; do
        container_tool images import "$NODE_HOME/state/images/$image.tar" >>"$STATE/logs/images.log" 2>&1 ||
            fail "containerd does not take the $image image, see $STATE/logs/images.log"
    done
}

container_tool() {
    in_node "$NODE_HOME/bin/$(basename "$BIN")/ctr" --address /run/containerd/containerd.sock --namespace k8s.io "$@"
}
