#!/bin/sh
# Makes the secret files of docker-compose.yml, each named like the variable that it stands for. A
# file that is there stays as it is. The folders that it mounts become readable, whatever the checkout's umask.
#
#     docker/secrets.sh [FOLDER]         # docker/secrets if none is named
#
# Only the folder's owner can enter it; the files themselves can be read by any user id, because the
# processes in the containers run under their own.
set -eu
folder=${1:-$(dirname "$0")/secrets}
chmod -R a+rX "$(dirname "$0")/prometheus" "$(dirname "$0")/grafana"
mkdir -p "$folder"
chmod 700 "$folder"

random() { # BYTES -> twice as many hexadecimal digits
    od -An -v -tx1 -N "$1" /dev/urandom | tr -d ' \n'
}
keep() { # NAME VALUE
    [ -s "$folder/$1" ] && return
    printf %s "$2" > "$folder/.new"
    chmod 444 "$folder/.new"
    mv "$folder/.new" "$folder/$1"
}
keep ALIGNX_INTERNAL_TOKEN "$(random 32)"
keep ALIGNX_ENGINE__CACHE_SALT_SECRET "$(random 32)"
keep ALIGNX_GATEWAY__METRICS_TOKEN "$(random 32)"
keep ALIGNX_GATEWAY__BOOTSTRAP_KEY "ax_$(random 6)_$(random 32)"
