#!/usr/bin/env bash
# Have libfaketime for the tests of wrong clocks, where it can be had without asking; they skip without it.
set -eu

! compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "installing the package faketime" >&2
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends faketime; } >/dev/null 2>&1 ||
        echo "the package faketime could not be installed: tests of wrong clocks are skipped" >&2
fi
exit 0
