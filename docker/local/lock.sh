#!/usr/bin/env bash
# Writes the locks of what is deployed (docker/services.lock) and tested (docker/test.lock): the
# newest versions that pyproject.toml admits, resolved in fresh environments.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

resolve() { # extra -> name==version lines
    python3 -m venv "$work/$1"
    "$work/$1/bin/pip" install -q --disable-pip-version-check "alignx-serve[$1] @ file://$PWD" 2> >(grep -v WARNING >&2)
    "$work/$1/bin/pip" freeze --exclude alignx-serve
}
{ echo "# Written by \`make lock\`: what the services run with."; resolve local; } > "$work/services.lock"
{ echo "# Written by \`make lock\`: what the tests need besides docker/services.lock."; echo "-r services.lock"
  resolve test | grep -vxFf "$work/services.lock"; } > "$work/test.lock"
mv "$work/services.lock" "$work/test.lock" docker/
