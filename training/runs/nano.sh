#!/usr/bin/env bash
# The whole chain of training on a nano model, from nothing until vLLM answers with the result: what
# `make train-smoke` runs. It shows that the stages fit together; the model is too small to learn
# anything. Everything is written to var/train/nano, anew each time.
#
#     PYTHON=.venv-training/bin/python ENGINE_PYTHON=.venv-engine/bin/python training/runs/nano.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv-training/bin/python}
engine=${ENGINE_PYTHON:-.venv-engine/bin/python}
configs=training/configs/nano
out=var/train/nano
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)} TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

rm -rf "$out"
mkdir -p "$out"

step() { # name command …: one line with the seconds, and the step's words only when it fails
    local name=$1 started=$SECONDS log="$out/$1.log"
    shift
    if ! "$@" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "$name failed after $((SECONDS - started)) s; all it said is in $log" >&2
        exit 1
    fi
    echo "$name: $((SECONDS - started)) s"
}

measure() { # stage checkpoint field …
    step "evaluate-$1" "$python" -m evaluation evaluation/configs/stage.toml stage="$1" model="$2" judge="$out/sft" \
        out="$out/results/$1.json" protocol.sampling.max_tokens=48 "${@:3}"
}
users=(data="$out/heldout_upi.jsonl" 'settings=["none", "full", "streaming", "profile"]')

step corpus "$python" -m training.corpus.make "$configs/corpus.toml"
step tokenizer "$python" -m training.tokenizer "$configs/tokenizer.toml"
for stage in sft:sft dpo:dpo_ica dpo:dpo_pba grpo:grpo_jud grpo:grpo_gen grpo:grpo_streaming; do
    step "${stage#*:}" "$python" -m "training.${stage%:*}" "$configs/${stage#*:}.toml"
done
measure sft "$out/sft" "${users[@]}"
measure rl "$out/rl" "${users[@]}"
for mode in ica pba; do
    measure "dpo-$mode" "$out/dpo-$mode" alignment.reference="$out/sft" \
        alignment.data="$out/heldout_alignx.jsonl" alignment.mode="$mode"
done
step report "$python" -m evaluation evaluation/configs/report.toml out="$out" report="$out/report"
step served "$python" -m evaluation.vllm_check "$out/rl" --data "$out/heldout_upi.jsonl" --engine-python "$engine"
cat "$out/served.log"
