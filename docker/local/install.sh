#!/bin/sh
# Makes the virtual environment FOLDER, if need be, and installs packages into it.
#
#     docker/local/install.sh FOLDER PIP-INSTALL-ARGUMENTS …
#     docker/local/install.sh --torch FOLDER
#
# uv installs, because its cache shares unpacked files between environments; where it fails, pip does the same.
# Which build of torch is meant, pip's configuration says: pip downloads it once into .venv/wheels.
set -eu
uv=.venv/bin/uv
export UV_SYSTEM_CERTS=true UV_LINK_MODE=hardlink PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

torch=
if [ "$1" = --torch ]; then torch=$(grep '^torch==' docker/torch.txt) && shift; fi
folder=$1 && shift
[ -x "$folder/bin/python" ] || "${PYTHON:-.venv/bin/python}" -m venv "$folder" || { rm -rf "$folder"; exit 1; }
if [ -n "$torch" ]; then
    ls ".venv/wheels/torch-${torch#torch==}"[+-]* >/dev/null 2>&1 || "$folder/bin/pip" download -q -d .venv/wheels "$torch"
    set -- --no-index --find-links .venv/wheels "$torch"
fi
[ -x "$uv" ] || .venv/bin/pip install -q uv==0.13.9 || true
"$uv" pip install -q --python "$folder/bin/python" "$@" || "$folder/bin/pip" install -q "$@"
