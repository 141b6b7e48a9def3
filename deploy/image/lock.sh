#!/bin/sh
# Write the two lock files anew: the newest versions that pyproject.toml allows, with the hashes of all their files.
#   requirements.lock   what the image runs: the package with `otel` and `postgres`
#   build.lock          what builds the wheel
# They hold for every Python from 3.11 on, and every platform that has wheels.
set -eu
cd "$(dirname "$0")/../.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
python3 -m venv "$tools"
"$tools/bin/pip" install --quiet --disable-pip-version-check uv

compile() { # SOURCE TARGET …
  source=$1 target=$2
  shift 2
  "$tools/bin/uv" pip compile "$source" --quiet --universal --python-version 3.11 --no-build --generate-hashes \
    --no-config --custom-compile-command 'make lock' --output-file "deploy/image/$target" --upgrade "$@"
}
compile pyproject.toml requirements.lock --extra otel --extra postgres
"$tools/bin/python" -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' > "$tools/build.in"
compile "$tools/build.in" build.lock --no-annotate
