#!/usr/bin/env bash
# Build both wheels and try them, installed away from the sources, on each supported Python here.
# Usage: scripts/test-wheels.sh UV
set -eu
uv=$1
top=$PWD
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$uv" build --quiet --all-packages --out-dir "$scratch/dist"
"$uv" export --quiet --frozen --all-packages --no-emit-workspace --no-hashes >"$scratch/locked.txt"
for version in 3.11 3.13; do
    if ! python=$("$uv" python find --no-python-downloads --system "$version" 2>/dev/null); then
        echo "wheels: Python $version is not on this machine, skipped"
        continue
    fi
    venv=$scratch/venv-$version
    "$uv" venv --quiet --python "$python" "$venv"
    "$uv" pip install --quiet --python "$venv/bin/python" -r "$scratch/locked.txt" "$scratch"/dist/*.whl
    # Away from the sources, so that only what the wheels hold can be imported.
    mkdir -p "$scratch/tree-$version"
    cp -r "$top/tests" "$top/pyproject.toml" "$scratch/tree-$version/"
    (
        cd "$scratch/tree-$version"
        PYTHONSAFEPATH=1 "$venv/bin/python" -m pytest -q tests/unit
        "$venv/bin/aimicromind-worker" demo
    ) || { echo "wheels: failed on Python $version" >&2; exit 1; }
    echo "wheels: Python $version passed"
done
