# The programs of the cluster, built from the Go module next to this file and the one in containerd/, and
# cached under a key of their contents. Sourced by scripts/cluster.
# shellcheck shell=bash disable=SC2034,SC2154 # names are shared with scripts/cluster

readonly KUBERNETES_VERSION=v1.34.4
# The API server refuses to work without a version, which only the linker sets.
readonly GO_LDFLAGS="-s -w \
-X k8s.io/component-base/version.gitVersion=$KUBERNETES_VERSION \
-X k8s.io/component-base/version.gitMajor=1 \
-X k8s.io/component-base/version.gitMinor=34 \
-X k8s.io/component-base/version.gitTreeState=clean"
# Debian's containerd 1.6.20 closes a container's output before it has read all of it: of a log of 100 KB that was written
# in one go, the end was lost in 4 cases of 10. Mended in 1.6.22 and 1.7.3 (github.com/containerd/containerd/pull/8643).
readonly CONTAINERD_TAGS=no_aufs,no_btrfs,no_devmapper,no_tracing,no_zfs
readonly PROGRAMS=(
    etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl
    containerd containerd-shim-runc-v2 ctr
)
# tests/cluster/go.mod asks for this Go at least.
readonly GO_MINOR_MIN=24

# Prints the folder of the built programs; it changes with every pinned version.
programs_dir() {
    local key
    key=$({
        cat "$PARTS"/{,containerd/}go.{mod,sum}
        echo "$GO_LDFLAGS $CONTAINERD_TAGS $(uname -m)"
    } | sha256sum)
    printf '%s/bin/%s\n' "$HOME_DIR" "${key:0:16}"
}

programs_are_built() {
    local program
    for program in "${PROGRAMS[@]}"; do
        [[ -x $BIN/$program ]] || return 1
    done
}

require_go() {
    command -v go >/dev/null ||
        fail "Go 1.$GO_MINOR_MIN or newer is needed to build Kubernetes, and there is no 'go' in PATH"
    local version
    version=$(go env GOVERSION)
    [[ $version =~ ^go1\.([0-9]+) && ${BASH_REMATCH[1]} -ge $GO_MINOR_MIN ]] ||
        fail "Go 1.$GO_MINOR_MIN or newer is needed to build Kubernetes; this is $version"
}

# Builds into a folder aside and renames it, so that an interrupted build is
# never taken for a finished one.
build_programs() {
    if programs_are_built; then
        return 0
    fi
    require_go
    local started=$SECONDS aside=$BIN.building
    say "Building etcd, containerd and Kubernetes $KUBERNETES_VERSION (about 8 minutes on 2 cores, only the first time)"
    rm -rf "$aside"
    mkdir -p "$aside"
    build_tools "$PARTS" "$aside/" -ldflags "$GO_LDFLAGS"
    build_tools "$PARTS/containerd" "$aside/" -ldflags "-s -w" -tags "$CONTAINERD_TAGS"
    # etcd's main package is the root of its server module and is named after it.
    mv "$aside/server" "$aside/etcd"
    # An interrupted removal may have left an incomplete folder under this name.
    rm -rf "$BIN"
    mv "$aside" "$BIN"
    programs_are_built || fail "the Go build left programs out of $BIN"
    say "Built in $((SECONDS - started)) s"
}

# build_tools MODULE INTO FLAG...: the tools that a Go module names.
build_tools() {
    local module=$1 into=$2
    shift 2
    (
        cd "$module"
        CGO_ENABLED=0 GOWORK=off nice -n 10 go build -trimpath -buildvcs=false -mod=readonly -o "$into" "$@" tool
    ) || fail "the Go build of $module failed (see above)"
}
