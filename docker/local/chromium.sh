#!/bin/sh
# Installs Chromium for the tests of the console where this may: as root, with apt. Where not, those tests say so.
command -v chromium >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; } >/dev/null 2>&1 && exit 0
fi
echo "WARNING: the console is NOT tested in a browser: Chromium cannot be installed"
