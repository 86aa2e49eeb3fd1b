#!/usr/bin/env bash
# Build both wheels and try them, installed away from the sources, on each supported Python here.
# Usage: scripts/test-wheels.sh UV
set -eu
uv=$1
top=$PWD
own=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

find_python() {
    local candidate
    # pyenv keeps what it has not been told to use behind a shim that fails.
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if "$candidate" -c '' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

"$uv" build --quiet --all-packages --out-dir "$scratch/dist"
"$uv" export --quiet --frozen --all-packages --no-emit-workspace --no-hashes >"$scratch/locked.txt"
for version in 3.11 3.13; do
    if ! python=$(find_python "$version"); then
        echo "wheels: Python $version is not on this machine, skipped"
        continue
    fi
    venv=$scratch/venv-$version
    "$uv" venv --quiet --python "$python" "$venv"
    "$uv" pip install --quiet --python "$venv/bin/python" -r "$scratch/locked.txt" "$scratch"/dist/*.whl
    # Tests and what they read, at another place: what is imported must be what the wheels hold.
    mkdir -p "$scratch/tree-$version"
    git ls-files -z | tar --null --files-from=- --create | tar --extract --directory "$scratch/tree-$version"
    cd "$scratch/tree-$version"
    for package in schemas testing worker; do
        PYTHONSAFEPATH=1 "$venv/bin/python" -c "
import aimicromind_$package as it
assert it.__file__.startswith('$venv/'), it.__file__"
    done
    # All unit tests have run on the project's own Python already, but not on what a wheel carries.
    # Properties try many examples, which no other Python makes come out differently.
    suite=(tests/unit -m "not hypothesis")
    [ "$version" != "$own" ] || suite=(tests/unit/contract/test_generated_files.py)
    PYTHONSAFEPATH=1 "$venv/bin/python" -m pytest -q -n 2 "${suite[@]}"
    "$venv/bin/aimicromind-worker" demo
    cd "$top"
    echo "wheels: Python $version passed"
done
