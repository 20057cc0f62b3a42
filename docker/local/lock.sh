#!/usr/bin/env bash
# Writes the locks of what is deployed (docker/services.lock), tested (docker/test.lock) and trained
# with (docker/training.lock): the newest versions that pyproject.toml admits, resolved in fresh
# environments. Those of the engine and of verl are written by hand, because their own lists bring
# what does not import on a CPU.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

resolve() { # extra [further package …] -> name==version lines
    python3 -m venv "$work/$1"
    "$work/$1/bin/pip" install -q --disable-pip-version-check "alignx[$1] @ file://$PWD" "${@:2}" \
        2> >(grep -v WARNING >&2)
    "$work/$1/bin/pip" freeze --exclude alignx
}
{ echo "# Written by \`make lock\`: what the services run with."; resolve local,services,tracing; } > "$work/services.lock"
{ echo "# Written by \`make lock\`: what the tests need besides docker/services.lock."; echo "-r services.lock"
  resolve test | grep -vxFf "$work/services.lock"; } > "$work/test.lock"
# What CUDA builds of torch bring belongs to torch, which is installed first and alone.
{ echo "# Written by \`make lock\`: what training and its tests run with, for Linux. torch comes first and alone:"
  echo "#"
  echo "#     python3 -m venv .venv-training"
  echo "#     .venv-training/bin/pip install torch==2.13.0"
  echo "#     .venv-training/bin/pip install --no-deps -r docker/training.lock"
  echo "async-timeout==5.0.1 ; python_full_version < '3.11.3'"  # of redis, and resolved for newer Pythons alone
  resolve training pytest coverage hypothesis opentelemetry-api redis | grep -vE '^(torch|triton|nvidia-|cuda-)'; } > "$work/training.lock"
mv "$work/services.lock" "$work/test.lock" "$work/training.lock" docker/
