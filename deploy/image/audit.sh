#!/bin/sh
# Ask whether a known vulnerability is in what the image runs, or in what builds it: `make audit`.
# It needs PyPI's vulnerability service.  Where that cannot be asked, nothing is known, and this fails too:
#   0  asked about every package, and none of them is known to be vulnerable
#   1  vulnerable packages, or it could not be asked; the last line says which
set -eu
cd "$(dirname "$0")/../.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
if [ -z "${PIP_AUDIT:-}" ]; then
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check pip-audit || {
    echo 'make audit: NOT AUDITED: pip-audit cannot be installed' >&2
    exit 1
  }
  PIP_AUDIT="$tools/bin/pip-audit"
fi

failed=
for lock in requirements.lock build.lock; do
  # `--strict`: a package that could not be asked about is a failure, not a footnote.
  # `--disable-pip`: the lock is complete and hashed, nothing is resolved or installed.
  if ! "$PIP_AUDIT" --strict --require-hashes --disable-pip --progress-spinner off --timeout 15 \
    --format json --output "$tools/found.json" --requirement "deploy/image/$lock" 2> "$tools/said"; then
    cat "$tools/said" >&2
    if [ -s "$tools/found.json" ]; then
      cat "$tools/found.json" >&2
      echo "make audit: VULNERABLE: deploy/image/$lock; raise the versions with \`make lock\`" >&2
    else
      echo "make audit: NOT AUDITED: deploy/image/$lock; whether it is vulnerable is not known" >&2
    fi
    failed=1
  elif ! python3 -c 'import json, sys; sys.exit(not json.load(open(sys.argv[1]))["dependencies"])' "$tools/found.json"; then
    echo "make audit: NOT AUDITED: deploy/image/$lock; nothing was asked about" >&2
    failed=1
  else
    python3 -c 'import json, sys; print(sys.argv[2] + ":", len(json.load(open(sys.argv[1]))["dependencies"]), "packages, no known vulnerability")' \
      "$tools/found.json" "deploy/image/$lock"
  fi
  rm -f "$tools/found.json"
done
[ -z "$failed" ]
