#!/bin/sh
# Builds the images and runs the suite in containers, where a Docker engine can be had; where not, says
# so and tests nothing.
#
#     tests/containers/run.sh [PYTEST ARGUMENTS]
#
# An engine that does not run yet is started, and stopped at the end. BASE_IMAGE=… builds everything
# from that one local image, for machines without an image registry; it is found where it lies ready.
set -u
cd "$(dirname "$0")/../.."
starter=../shared/tools/docker-engine.sh
local_base=alignx-base:bookworm

missing() {
    printf '\n\033[33mWARNING: the containers were NOT tested: %s\033[0m\n\n' "$1"
    exit 0
}

started=
if ! docker info >/dev/null 2>&1; then
    [ "$(id -u)" = 0 ] && [ -f "$starter" ] || missing "no Docker engine answers here"
    echo "Starting a Docker engine …"
    bash "$starter" >/dev/null 2>&1 && docker info >/dev/null 2>&1 || missing "no Docker engine could be started"
    started=$(cat /var/run/docker.pid)
fi
command -v docker-compose >/dev/null || docker compose version >/dev/null 2>&1 || missing "there is no docker compose"
if [ -z "${BASE_IMAGE:-}" ] && docker image inspect "$local_base" >/dev/null 2>&1; then
    export BASE_IMAGE=$local_base
fi
.venv/bin/pytest -s --no-header tests/containers/containers.py "$@"
result=$?
[ -z "$started" ] || kill "$started"
exit $result
