#!/usr/bin/env bash
# MoCaE: rows of three axes, an expert each, their merges on a grid, the router, and what all that is worth. Called again,
# it goes on behind the last step that is done.
#
#     training/runs/mocae.sh                         by training/configs/full, at 7B
#     training/runs/mocae.sh --tiny                  on a model too small to learn, until vLLM serves the merges
#
# JUDGE names the URL of an engine for win rates over the base.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv-training/bin/python}
size=full
[ "${1:-}" = --tiny ] && size=nano
config=training/configs/$size/mocae.toml
expert=training/configs/$size/mocae_expert.toml
out=var/train/$size/mocae
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)} TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
mkdir -p "$out/done"

step() { # name module argument …
    local name=$1 started=$SECONDS
    shift
    if [ -e "$out/done/$name" ]; then
        echo "$name: done before"
        return
    fi
    if ! "$python" -m "$@" >"$out/$name.log" 2>&1; then
        tail -n 40 "$out/$name.log" >&2
        echo "$name failed after $((SECONDS - started)) s" >&2
        exit 1
    fi
    touch "$out/done/$name"
    echo "$name: $((SECONDS - started)) s"
}

step rows training.mocae.axis_rows "$config"
if [ $size = nano ]; then
    step base training.tokenizer training/configs/nano/tokenizer.toml 'data=["'"$out"'/helpful.jsonl"]' output="$out/base"
fi
for axis in helpful harmless honest; do
    step "$axis" training.sft "$expert" 'data.train=["'"$out/$axis"'.jsonl"]' run.output="$out/$axis"
done
step merge training.mocae.merge "$config"
step router training.mocae.router "$config"
step measure evaluation.suites.mocae "$config" ${JUDGE:+judge="$JUDGE"}
step report evaluation.reporting.mocae_report "$out/result.json"
if [ $size = nano ]; then
    step served evaluation.suites.adapters_check "$config"
    cat "$out/served.log"
fi
