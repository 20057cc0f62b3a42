#!/bin/sh
# Prints the Secret that the pods read, with fresh random values; `create` refuses to replace one:
#
#     docker/kubernetes/secret.sh | kubectl create -f -
#
# NAMESPACE: alignx unless told. REDIS_URL: of a Redis of your own, its password within. HF_TOKEN: for
# checkpoints that are not public.
set -eu
random() { # BYTES -> twice as many hexadecimal digits
    od -An -v -tx1 -N "$1" /dev/urandom | tr -d ' \n'
}
password=$(random 32)
cat <<END
apiVersion: v1
kind: Secret
metadata:
  name: alignx
  namespace: ${NAMESPACE:-alignx}
type: Opaque
stringData:
  ALIGNX_INTERNAL_TOKEN: "$(random 32)"
  ALIGNX_ENGINE__CACHE_SALT_SECRET: "$(random 32)"
  ALIGNX_GATEWAY__METRICS_TOKEN: "$(random 32)"
  ALIGNX_GATEWAY__BOOTSTRAP_KEY: "ax_$(random 6)_$(random 32)"
  ALIGNX_REDIS__URL: "${REDIS_URL:-redis://:$password@redis:6379/0}"
  redis-password: "$password"
END
if [ -n "${HF_TOKEN:-}" ]; then
    printf '  HF_TOKEN: "%s"\n' "$HF_TOKEN"
fi
