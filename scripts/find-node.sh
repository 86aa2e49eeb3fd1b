#!/usr/bin/env bash
# Make sure that .tools/contract has the AsyncAPI parser and TypeScript, from npm and the lock file.
# Only as root, or after a yes at a terminal, is Node itself installed. Fails where it cannot be had.
set -eu
source=tests/contract/node
target=.tools/contract

install_packages() {
    local as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null
}

! cmp -s "$source/package-lock.json" "$target/installed.json" || exit 0
if ! command -v npm >/dev/null || ! command -v node >/dev/null; then
    if ! command -v apt-get >/dev/null; then
        echo "no npm: install Node" >&2
        exit 1
    elif [ "$(id -u)" = 0 ]; then
        echo "installing the packages nodejs and npm" >&2
        install_packages
    elif [ -t 0 ] && command -v sudo >/dev/null; then
        read -r -p "Install the packages nodejs and npm with sudo? [y/N] " yes
        [ "$yes" = y ] || exit 1
        install_packages
    else
        echo "no npm: install the packages nodejs and npm" >&2
        exit 1
    fi
fi
mkdir -p "$target"
cp "$source/package.json" "$source/package-lock.json" "$target/"
npm ci --prefix "$target" --ignore-scripts --no-fund --no-audit --loglevel=error >&2
cp "$source/package-lock.json" "$target/installed.json"
