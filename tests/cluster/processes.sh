# The cluster's processes and the cgroups that prove they are ours. Sourced by scripts/cluster.
# shellcheck shell=bash disable=SC2034,SC2154 # names are shared with scripts/cluster
#
# Every process is started inside a cgroup named after the cluster, and so are all of its
# descendants: shims, containers, whatever a script leaves behind. Membership outlives pid files and
# cannot be confused with a recycled pid, so cleaning up means emptying that cgroup.

readonly STOP_LIMIT_SECONDS=20

# Prints the mount points of the cgroup hierarchies that count: every v1 one where there are any
# (kubelet and runc use those), else the v2 one.
cgroup_hierarchies() {
    awk '$3 == "cgroup" { print $2; v1 = 1 } $3 == "cgroup2" { v2 = $2 } END { if (!v1 && v2) print v2 }' /proc/self/mounts
}

# Prints every mounted hierarchy: runc also leaves cgroups in a v2 one that stands beside v1.
all_cgroup_hierarchies() {
    awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/self/mounts
}

# Prints the hierarchy in which our processes are held: on v1 the pids controller has no
# side effects; containers are in it too.
holding_hierarchy() {
    awk '$3 == "cgroup" && $4 ~ /(^|,)pids(,|$)/ { print $2; v1 = 1 }
         $3 == "cgroup" { any = 1 }
         $3 == "cgroup2" { v2 = $2 }
         END { if (!any && v2) print v2 }' /proc/self/mounts
}

create_cgroups() {
    local hierarchy file controller
    [[ -n $HOLDING ]] || fail "the pids cgroup controller is not mounted"
    while read -r hierarchy; do
        mkdir -p "$hierarchy/$CLUSTER_ID" || fail "cannot make cgroups in $hierarchy"
        # A new cpuset is empty on v1, and nothing can run in it.
        for file in cpuset.mems cpuset.cpus; do
            if [[ -f $hierarchy/cgroup.clone_children && -f $hierarchy/$file ]]; then
                cat "$hierarchy/$file" >"$hierarchy/$CLUSTER_ID/$file"
            fi
        done
        # On v2 a controller is handed down level by level; those the kernel lacks are the kubelet's to name.
        if [[ -f $hierarchy/cgroup.subtree_control ]]; then
            for controller in cpu cpuset memory pids io; do
                { echo "+$controller" >"$hierarchy/cgroup.subtree_control"; } 2>/dev/null || true
                { echo "+$controller" >"$hierarchy/$CLUSTER_ID/cgroup.subtree_control"; } 2>/dev/null || true
            done
        fi
    done < <(cgroup_hierarchies)
    mkdir -p "$HOLDING/$CLUSTER_ID/programs"
}

# Prints the pids of everything that belongs to the cluster.
our_pids() {
    if [[ -d $HOLDING/$CLUSTER_ID ]]; then
        find "$HOLDING/$CLUSTER_ID" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -un | grep -vx 0 || true
    fi
}

# Kills everything that belongs to the cluster, until nothing is left of it.
kill_ours() {
    local deadline=$((SECONDS + STOP_LIMIT_SECONDS)) pids
    while true; do
        mapfile -t pids < <(our_pids)
        if [[ ${#pids[@]} == 0 ]]; then
            # With its number: in a trap, a bare `return` answers with the status from before the trap.
            return 0
        fi
        ((SECONDS < deadline)) || fail "these processes of the cluster do not die: ${pids[*]}"
        kill -KILL "${pids[@]}" 2>/dev/null || true
        sleep 0.05
    done
}

remove_cgroups() {
    local deadline=$((SECONDS + STOP_LIMIT_SECONDS)) hierarchy
    while read -r hierarchy; do
        # The kernel takes a moment after the last process until a cgroup may go.
        while [[ -d $hierarchy/$CLUSTER_ID ]]; do
            find "$hierarchy/$CLUSTER_ID" -depth -type d -exec rmdir {} \; 2>/dev/null || true
            ((SECONDS < deadline)) || fail "cannot remove the cgroup $hierarchy/$CLUSTER_ID"
            [[ ! -d $hierarchy/$CLUSTER_ID ]] || sleep 0.05
        done
    done < <(all_cgroup_hierarchies)
}

# start NAME COMMAND...: in the background, in our cgroup, with a pid file and a log, and with an
# environment of its own: the user's proxies, for one, are none of the cluster's business.
start() {
    local name=$1 pid_file=$STATE/pids/$1
    shift
    rm -f "$pid_file"
    # `exec` down to the program keeps the pid; descriptor 9 is the lock of this script.
    # shellcheck disable=SC2016 # expanded by the inner shell
    env -i PATH="$PATH" HOME=/run setsid bash -c 'echo $$ >"$1/cgroup.procs" && echo $$ >"$2.new" && mv "$2.new" "$2" && shift 2 && exec "$@"' \
        start "$HOLDING/$CLUSTER_ID/programs" "$pid_file" "$@" \
        </dev/null >>"$STATE/logs/$name.log" 2>&1 9>&- &
    disown
    wait_until 5 "the start of $name" "$name" test -s "$pid_file"
}

# Prints the program's pid if the process of its pid file is still that program.
pid_of() {
    local pid
    pid=$(cat "$STATE/pids/$1" 2>/dev/null) || return 1
    [[ $pid =~ ^[0-9]+$ && /proc/$pid/exe -ef $(program_path "$1") ]] || return 1
    grep -q ":/$CLUSTER_ID/programs\$" "/proc/$pid/cgroup" 2>/dev/null || return 1
    printf '%s\n' "$pid"
}

program_path() {
    case $1 in
        node) command -v sleep ;;
        *) printf '%s\n' "$BIN/$1" ;;
    esac
}

# kill_program NAME: at once, as a crash would, and waits until it is gone.
kill_program() {
    local name=$1 pid
    if pid=$(pid_of "$name"); then
        kill -KILL "$pid"
        rm -f "$STATE/pids/$name"
        wait_until "$STOP_LIMIT_SECONDS" "the end of $name" "$name" test ! -e "/proc/$pid/exe"
    fi
    rm -f "$STATE/pids/$name"
}

# wait_until SECONDS WHAT PROGRAM COMMAND...: until the command succeeds; fails after the limit or when
# the program it depends on has ended, showing the end of that program's log.
wait_until() {
    local limit=$1 what=$2 program=$3
    local deadline=$((SECONDS + limit))
    shift 3
    # In a subshell, so that no signal's trap runs with its output sent away.
    until ("$@") >/dev/null 2>&1; do
        if has_ended "$program"; then
            show_log "$program"
            fail "$program ended by itself; waited for $what"
        fi
        if ((SECONDS >= deadline)); then
            show_log "$program"
            fail "waited $limit s in vain for $what"
        fi
        sleep 0.05
    done
}

has_ended() {
    local pid
    pid=$(cat "$STATE/pids/$1" 2>/dev/null) && [[ ! -e /proc/$pid ]]
}

show_log() {
    {
        echo "--- the end of $STATE/logs/$1.log"
        tail -n 15 "$STATE/logs/$1.log"
        echo "---"
    } >&2 || true
}
