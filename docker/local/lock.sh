#!/usr/bin/env bash
# Writes the locks: each package with its version and the hashes of all files that the index has of it.
#
#     docker/local/lock.sh             the newest versions that pyproject.toml admits, for all Pythons from 3.11 on
#     docker/local/lock.sh --hashes    the versions stay as they stand in the locks; their hashes are written anew
#
# docker/services.lock is what is deployed, docker/test.lock what the tests need besides, docker/wheel.lock what the
# wheel brings, and docker/training.lock what training runs with. Versions of the engine, of verl and of what builds the
# docs are written by hand,
# because their own lists bring what does not import on a CPU: edit a version, then run this with --hashes.
# torch stands in no lock (docker/torch.txt).
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export UV_SYSTEM_CERTS=true

compile() { # One version of each package serves all Pythons.
    .venv/bin/uv pip compile -q --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
        --no-annotate --no-header "$@"
}

add_hashes() { # LOCK: its comments and the locks that it names stay, and so does each version
    grep -E '^(#|-r )' "$1" >"$work/head"
    grep -vE '^(#|-r )|^ +--hash|^$' "$1" | sed 's/ *\\$//' >"$work/versions.in"
    compile --no-deps -o "$work/hashed" "$work/versions.in" >/dev/null
    cat "$work/head" "$work/hashed" >"$work/lock" && mv "$work/lock" "$1"
}

from_pyproject() { # LOCK OPTION …: what the extras need; versions in the lock stay unless an option says otherwise
    grep -E '^(#|-r )' "docker/$1" >"$work/head"
    grep -vE '^(#|-r )' "docker/$1" >"$work/$1" || true
    compile -o "$work/$1" pyproject.toml "${@:2}" >/dev/null
    cat "$work/head" "$work/$1" >"$work/lock" && mv "$work/lock" "docker/$1"
}

upgrade=--upgrade
[ "${1:-}" = --hashes ] && upgrade=
from_pyproject services.lock $upgrade --extra local --extra services --extra tracing
from_pyproject wheel.lock $upgrade --extra cli -c docker/services.lock
mapfile -t deployed < <(grep -oE '^[a-z0-9-]+==' docker/services.lock | sed 's/^/--no-emit-package=/; s/==$//')
from_pyproject test.lock $upgrade --extra test -c docker/services.lock "${deployed[@]}"
if [ -n "$upgrade" ]; then
    python3 -m venv "$work/training"
    "$work/training/bin/pip" install -q --disable-pip-version-check "alignx[training] @ file://$PWD" \
        pytest coverage hypothesis opentelemetry-api redis 2> >(grep -v WARNING >&2)
    grep '^#' docker/training.lock >"$work/training.lock"
    echo "async-timeout==5.0.1 ; python_full_version < '3.11.3'" >>"$work/training.lock" # redis's, on an older Python
    # What CUDA builds of torch bring belongs to torch.
    "$work/training/bin/pip" freeze --exclude alignx | grep -vE '^(torch|triton|nvidia-|cuda-)' >>"$work/training.lock"
    mv "$work/training.lock" docker/
fi
for lock in docker/training.lock docker/engine-cpu.lock docker/docs.lock training/verl/requirements-cpu.txt; do
    add_hashes "$lock"
done
