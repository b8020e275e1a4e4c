# What the machine must offer: root, cgroups, a few programs. Sourced by scripts/cluster.
# shellcheck shell=bash disable=SC2034,SC2154 # names are shared with scripts/cluster

# program=Debian package that brings it
readonly NEEDED_PROGRAMS=(
    runc=runc ip=iproute2 nsenter=util-linux unshare=util-linux setsid=util-linux flock=util-linux
    mount=mount openssl=openssl curl=curl jq=jq iptables=iptables tar=tar find=findutils ps=procps
)
readonly CNI_DIR=/usr/lib/cni
readonly CNI_PLUGINS=(bridge host-local loopback)

# Prints the Debian packages that are missing, one a line.
missing_packages() {
    local entry plugin
    for entry in "${NEEDED_PROGRAMS[@]}"; do
        command -v "${entry%%=*}" >/dev/null || printf '%s\n' "${entry#*=}"
    done
    for plugin in "${CNI_PLUGINS[@]}"; do
        [[ -x $CNI_DIR/$plugin ]] || printf 'containernetworking-plugins\n'
    done
    static_busybox >/dev/null || printf 'busybox-static\n'
    [[ -s /etc/ssl/certs/ca-certificates.crt ]] || printf 'ca-certificates\n'
}

# Prints the path of a busybox that runs in an image of nothing else: a statically linked one
# names no program interpreter.
static_busybox() {
    local path
    path=$(command -v busybox) || return 1
    grep -q -a -E '/lib(64)?/ld-(linux|musl)' "$path" && return 1
    printf '%s\n' "$path"
}

require_machine() {
    [[ $(uname -s) == Linux ]] || fail "Linux is needed"
    [[ $(id -u) == 0 ]] || fail "root is needed (network namespaces, mounts, cgroups)"
    [[ -n $(cgroup_hierarchies) ]] || fail "no cgroup file system is mounted"
    grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null ||
        fail "the kernel has no overlay file system"
    install_packages
}

install_packages() {
    local packages
    mapfile -t packages < <(missing_packages | sort -u)
    if [[ ${#packages[@]} == 0 ]]; then
        return 0
    fi
    command -v apt-get >/dev/null ||
        fail "missing: ${packages[*]} (Debian's package names), and there is no apt-get to install them"
    say "Installing ${packages[*]}"
    # Never at the price of another package: Docker's containerd.io brings a runc of its own, which Debian's would replace.
    {
        apt-get update -q &&
            DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends --no-remove "${packages[@]}"
    } >"$HOME_DIR/apt.log" 2>&1 || {
        tail -n 20 "$HOME_DIR/apt.log" >&2
        fail "apt-get could not install ${packages[*]}"
    }
    mapfile -t packages < <(missing_packages | sort -u)
    [[ ${#packages[@]} == 0 ]] || fail "still missing after the installation: ${packages[*]}"
}
