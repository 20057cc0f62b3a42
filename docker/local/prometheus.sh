#!/bin/sh
# Sees to it that `prometheus` and `promtool` can be called: they are on the PATH, or Debian's package is
# unpacked (not installed, so no root is needed where apt has its lists) into FOLDER.
#
#     docker/local/prometheus.sh FOLDER
set -eu
folder=$1
if command -v prometheus >/dev/null && command -v promtool >/dev/null; then exit 0; fi
if [ -x "$folder/prometheus" ] && [ -x "$folder/promtool" ]; then exit 0; fi

fail() {
    echo "The tests of metrics, alerts and dashboards need Prometheus: $1. Install it so that 'prometheus' and" \
        "'promtool' are on the PATH (Debian: apt-get install --no-install-recommends prometheus)." >&2
    exit 1
}
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || fail "it is not here, and neither is apt"
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
chmod 755 "$place"
cd "$place"
apt-get download -qq prometheus >/dev/null 2>&1 ||
    { apt-get update -qq && apt-get download -qq prometheus; } >/dev/null 2>&1 || fail "apt could not get it"
dpkg-deb -x prometheus_*.deb unpacked
cd - >/dev/null
mkdir -p "$folder"
mv "$place/unpacked/usr/bin/prometheus" "$place/unpacked/usr/bin/promtool" "$folder/"
