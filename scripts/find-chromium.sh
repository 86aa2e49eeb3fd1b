#!/usr/bin/env bash
# Have Chromium for the test of the page in a browser, where it can be had without asking; it skips without.
set -eu

! command -v chromium >/dev/null || exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "installing the package chromium" >&2
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } >/dev/null 2>&1 ||
        echo "the package chromium could not be installed: the page is not tried in a browser" >&2
fi
exit 0
