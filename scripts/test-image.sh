#!/usr/bin/env bash
# Build the image and try it as a cluster would run it: tests/image, against a private broker and the scripted endpoint.
#
# Docker is used where it answers, else podman and buildah, as root, with storage of their own in .tools/containers; on Debian
# they are installed. Where the base image cannot be pulled, one made by debootstrap with Debian's python3 stands in, and is named.
set -eu
cd "$(dirname "$0")/.."
top=$PWD
base=$(sed -n 's/^ARG BASE_IMAGE=//p' Dockerfile)
export IMAGE=localhost/aimicromind-worker:test ENGINE
debian_packages=(buildah podman runc catatonit netavark aardvark-dns fuse-overlayfs uidmap iptables debootstrap)

skip() {
    echo "image: SKIPPED, nothing was tested: $1"
    exit 0
}

have_podman() {
    command -v podman >/dev/null && command -v buildah >/dev/null && command -v runc >/dev/null && command -v debootstrap >/dev/null
}

install_podman() {
    echo "installing the packages ${debian_packages[*]}" >&2
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${debian_packages[@]}" >/dev/null
}

configure_podman() {
    local folder=$top/.tools/containers
    mkdir -p "$folder"
    cat >"$folder/containers.conf" <<END
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
END
    cat >"$folder/storage.conf" <<END
[storage]
driver = "overlay"
graphroot = "$folder/graph"
runroot = "$folder/run"
END
    export CONTAINERS_CONF=$folder/containers.conf CONTAINERS_STORAGE_CONF=$folder/storage.conf
}

make_base() {
    local root=$top/.tools/containers/base
    [ -e "$root.made" ] || {
        rm -rf "$root"
        debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates trixie "$root" >"$root.log" &&
            rm -rf "$root"/var/cache/apt "$root"/var/lib/apt/lists/* && touch "$root.made"
    } || { tail -5 "$root.log" >&2; return 1; }
    tar -C "$root" -c . | podman import --quiet --change 'CMD ["python3"]' - "$base" >/dev/null
    podman image inspect "$base" >/dev/null && podman tag "$base" localhost/stand-in
}

find_base() {
    local error
    if ! podman image exists "$base"; then
        error=$(timeout 60 podman pull --quiet "$base" 2>&1 >/dev/null) && return
        echo "image: $base cannot be pulled (${error##*$'\n'})" >&2
        make_base || skip "no base image: $base cannot be pulled, and debootstrap failed"
    fi
    ! podman image exists localhost/stand-in || echo "image: the base is a STAND-IN, Debian trixie with its python3"
}

versions=(
    --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)"
    --build-arg "CREATED=$(date -u +%Y-%m-%dT%H:%M:%SZ)"
)
if docker info >/dev/null 2>&1; then
    ENGINE=docker
    docker build --quiet "${versions[@]}" --tag "$IMAGE" . >/dev/null
else
    ENGINE=podman
    [ "$(id -u)" = 0 ] || skip "Docker does not answer, and podman is only tried as root"
    if ! have_podman; then
        command -v apt-get >/dev/null || skip "Docker does not answer, and there is no podman with buildah, runc and debootstrap"
        install_podman || skip "Docker does not answer, and podman could not be installed"
    fi
    configure_podman
    find_base
    # The machine's certificates, as its network may have some of its own.
    buildah bud --quiet --isolation chroot --layers --format docker --pull-never --network host \
        --volume /etc/ssl/certs:/etc/ssl/certs:ro "${versions[@]}" --tag "$IMAGE" . >/dev/null
fi
"$1" run --frozen --all-packages pytest -q tests/image
bytes=$("$ENGINE" image inspect --format '{{.Size}}' "$IMAGE")
own=$("$ENGINE" run --rm --no-healthcheck --network none --entrypoint python "$IMAGE" -c \
    'from pathlib import Path; print(sum(p.lstat().st_size for p in Path("/opt/aimicromind").rglob("*")))')
echo "image: passed on $ENGINE; $((bytes / 1000000)) MB, $((own / 1000000)) MB of them the worker and its libraries"
