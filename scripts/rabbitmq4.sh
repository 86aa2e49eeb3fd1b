#!/usr/bin/env bash
# Install RabbitMQ 4 from a Debian suite into a folder, beside the machine's own, and print its start script.
#
#   scripts/rabbitmq4.sh FOLDER [SUITE]     trixie (4.0) unless another suite is named, such as sid
#
# It needs root, a network and about 400 MB. The start script runs the server in a chroot whose mounts only its own
# process sees, so nothing is left of them when it ends; a second call finds what the first one made.
set -eEu

folder=$(realpath -m "${1:?name a folder to install into}")
suite=${2:-trixie}
root=$folder/root
programs=(/usr/lib/rabbitmq/bin/rabbitmq-server /usr/lib/rabbitmq/bin/rabbitmqctl /usr/bin/epmd)

install_server() {
    [ "$(id -u)" = 0 ] || { echo "RabbitMQ $suite: debootstrap and chroot need root" >&2; exit 1; }
    if ! command -v debootstrap >/dev/null; then
        apt-get update -qq >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >&2
    fi
    rm -rf "$folder"
    mkdir -p "$folder"
    trap 'tail -20 "$folder/install.log" >&2' ERR
    debootstrap --variant=minbase "$suite" "$root" >"$folder/install.log"
    # invoke-rc.d asks this file whether it may start a service (Debian policy 9.3.3).
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    DEBIAN_FRONTEND=noninteractive chroot "$root" \
        apt-get install -y -qq --no-install-recommends rabbitmq-server >>"$folder/install.log" 2>&1
    printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
}

# With exec all the way: signals to the one that started it reach the node itself.
write_program() {
    local wrapper=$folder/sbin/${1##*/}
    cat >"$wrapper" <<END
#!/bin/sh
exec unshare --mount -- /bin/sh -euc '
    tmp=\${TMPDIR:-/tmp}
    mkdir -p "$root\$tmp"
    mount --rbind /proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount --bind "\$tmp" "$root\$tmp"
    PATH=/usr/sbin:/usr/bin:/sbin:/bin exec chroot "$root" "\$@"
' sh $1 "\$@"
END
    chmod 755 "$wrapper"
}

if [ ! -e "$folder/installed" ]; then
    install_server
    mkdir -p "$folder/sbin"
    for program in "${programs[@]}"; do write_program "$program"; done
    touch "$folder/installed"
fi
chroot "$root" dpkg-query --show rabbitmq-server erlang-base >&2
echo "$folder/sbin/rabbitmq-server"
