# Container images without Docker: a folder becomes a tarball as `docker save` writes it. Sourced, never run; needs `fail`.
# shellcheck shell=bash

readonly IMAGE_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# pack_image NAME ROOT CONFIG OUT: one layer. CONFIG is JSON members of the image's configuration.
pack_image() {
    local name=$1 root=$2 config=$3 out=$4 parts=$4.parts digest
    mkdir -p "$parts"
    # Of the same files the same image, so that nothing is loaded twice.
    tar -C "$root" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf "$parts/layer.tar" .
    digest=$(sha256sum "$parts/layer.tar")
    cat >"$parts/config.json" <<JSON
{"architecture": "$(image_architecture)", "os": "linux", "created": "1970-01-01T00:00:00Z",
 "config": {"Env": ["PATH=$IMAGE_PATH"], $config},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:${digest%% *}"]}, "history": [{"created_by": "scripts/pack-image.sh"}]}
JSON
    printf '[{"Config": "config.json", "RepoTags": ["%s"], "Layers": ["layer.tar"]}]\n' "$name" >"$parts/manifest.json"
    tar -C "$parts" -cf "$out" manifest.json config.json layer.tar
    rm -rf "$parts"
}

image_architecture() {
    case $(uname -m) in
        x86_64) echo amd64 ;;
        aarch64) echo arm64 ;;
        *) fail "no image architecture is known for $(uname -m)" ;;
    esac
}
