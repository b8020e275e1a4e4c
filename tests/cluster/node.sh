# The network namespace in which everything runs, and the mount namespace of the cluster's
# programs. Sourced by scripts/cluster.
# shellcheck shell=bash disable=SC2034,SC2154 # names are shared with scripts/cluster
#
# The mount namespace is private: its /run, /var/lib and /var/log are its own, and the cluster's
# folder is at /run/cluster whatever the checkout's path is (so sockets stay short and every file in
# config/ can name fixed paths). It vanishes with its last process, and all mounts of pods with it.

readonly NODE_NAME=executor-node
readonly NODE_IP=192.168.89.1
readonly API_PORT=6443
readonly NODE_HOME=/run/cluster
readonly NETNS_DIR=/var/run/netns
# The kubelet wants to set these, for the whole machine. In its namespace they are files that already say so.
readonly KERNEL_SETTINGS=(
    vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000
)

create_network() {
    mkdir -p "$NETNS_DIR"
    : >"$NETNS_DIR/$CLUSTER_ID"
    unshare --net="$NETNS_DIR/$CLUSTER_ID" ip link set lo up || fail "cannot make a network namespace"
    # A bridge, since a `dummy` link is not in every kernel; it leads nowhere, but programs want a default route.
    in_network ip link add node0 type bridge
    in_network ip address add "$NODE_IP/24" dev node0
    in_network ip link set node0 up
    in_network ip route add default dev node0
}

remove_network() {
    local name=$NETNS_DIR/$CLUSTER_ID
    if [[ -e $name ]]; then
        # A plain file when it was left behind by a restart of the machine or an interrupted start.
        umount "$name" 2>/dev/null || true
        rm -f "$name" || fail "cannot remove the network namespace $name"
    fi
    rmdir "$NETNS_DIR" 2>/dev/null || true
}

in_network() {
    nsenter --net="$NETNS_DIR/$CLUSTER_ID" "$@"
}

# Runs a command where the programs run: their network and their mounts.
in_node() {
    nsenter --target "$(pid_of node)" --net --mount "$@"
}

# Starts the process that holds the mount namespace open and waits until it is furnished.
start_node() {
    local setting
    for setting in "${KERNEL_SETTINGS[@]}"; do
        mkdir -p "$STATE/kernel/$(dirname "${setting%=*}")"
        printf '%s\n' "${setting#*=}" >"$STATE/kernel/${setting%=*}"
    done
    start node nsenter --net="$NETNS_DIR/$CLUSTER_ID" unshare --mount --propagation private \
        bash "$PARTS/furnish.sh" "$HOME_DIR" "$NODE_HOME" "${KERNEL_SETTINGS[@]%=*}"
    wait_until 5 "the node's mounts" node test -e "$STATE/furnished"
}
