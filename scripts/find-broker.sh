#!/usr/bin/env bash
# Make sure that there is a RabbitMQ to use: a given one, the machine's, Docker's, or a new package.
# Only as root, or after a yes at a terminal, is anything installed; no service is started.
# With the argument `server` only the machine's own rabbitmq-server will do, as tests restart it, or
# the one whose start script PRIVATE_BROKER_SERVER names.
set -eu

has_server() {
    compgen -G '/usr/lib/rabbitmq/bin/rabbitmq-server' >/dev/null ||
        compgen -G '/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server' >/dev/null ||
        compgen -G '/opt/homebrew/sbin/rabbitmq-server' >/dev/null ||
        compgen -G '/usr/local/sbin/rabbitmq-server' >/dev/null
}

install_package() {
    local as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    # invoke-rc.d asks this file whether it may start a service (Debian policy 9.3.3).
    local policy=/usr/sbin/policy-rc.d made=
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy >/dev/null
        "${as_root[@]}" chmod 755 $policy
        made=yes
    fi
    local failed=
    {
        "${as_root[@]}" apt-get update -qq &&
            "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
                apt-get install -y -qq --no-install-recommends rabbitmq-server >/dev/null
    } || failed=yes
    [ -z "$made" ] || "${as_root[@]}" rm -f $policy
    [ -z "$failed" ]
}

[ -z "${PRIVATE_BROKER_SERVER:-}" ] || exit 0
! has_server || exit 0
if [ "${1:-}" != server ]; then
    [ -z "${AIMICROMIND_AMQP_URL:-}" ] || exit 0
    ! docker info >/dev/null 2>&1 || exit 0
fi
if command -v apt-get >/dev/null; then
    if [ "$(id -u)" = 0 ]; then
        echo "installing the package rabbitmq-server; its service is not started" >&2
        install_package && exit 0
    elif [ -t 0 ] && command -v sudo >/dev/null; then
        read -r -p "Install the package rabbitmq-server with sudo? Its service is not started. [y/N] " yes
        [ "$yes" != y ] || { install_package && exit 0; }
    fi
fi
echo "no RabbitMQ: set AIMICROMIND_AMQP_URL, install rabbitmq-server (apt-get or brew), or start Docker" >&2
exit 1
