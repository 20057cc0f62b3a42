#!/bin/sh
# Installs what the tests of the console need beside Python's packages: Chromium, and axe-core by npm. As root it may ask
# apt for Chromium and npm. Where one cannot be had, those tests say so.
may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }
install() { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1"; }

if ! command -v chromium >/dev/null; then
    { may_install && install chromium; } >/dev/null 2>&1 ||
        echo "WARNING: the console is NOT tested in a browser: Chromium cannot be installed"
fi
if ! command -v npm >/dev/null; then
    { may_install && install npm; } >/dev/null 2>&1
fi
npm ci --prefix tests/browser --ignore-scripts --no-audit --no-fund --silent 2>/dev/null ||
    echo "WARNING: the accessibility of the console is NOT tested: npm cannot install axe-core"
