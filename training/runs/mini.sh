#!/usr/bin/env bash
# Trains models/alignx-mini from nothing: corpus, tokenizer, a curriculum of six supervised phases,
# preference optimization, two-stage reinforcement learning, evaluation of each stage on held-out users,
# report. An hour and a quarter on two cores. A stage whose checkpoint is there is passed over, and one that was
# interrupted resumes: the same command goes on where it stopped. Remove models/alignx-mini-* and
# var/train/mini to start anew.
#
#     PYTHON=.venv-training/bin/python training/runs/mini.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv-training/bin/python}
configs=training/configs/mini
out=var/train/mini
models=models/alignx-mini
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)} TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

step() { # name, file that shows it is done, command …
    local name=$1 result=$2 started=$SECONDS
    shift 2
    if [ -e "$result" ]; then
        echo "$name: done before"
        return
    fi
    "$@"
    echo "$name: $((SECONDS - started)) s"
}

train() { # stage config checkpoint
    step "$2" "$3/config.json" "$python" -m "training.$1" "$configs/$2.toml"
}

measure() { # stage checkpoint field …
    step "evaluate $1" "$out/results/$1.json" "$python" -m evaluation evaluation/configs/stage.toml stage="$1" \
        model="$2" judge="$models-sft" out="$out/results/$1.json" "${@:3}"
}
users=(data="$out/heldout_upi.jsonl" limit=500)

step corpus "$out/heldout_personalized.jsonl" "$python" -m training.corpus.make "$configs/corpus.toml"
step tokenizer "$models-init/config.json" "$python" -m training.tokenizer "$configs/tokenizer.toml"
train sft sft_one "$models-one"
train sft sft_pick "$models-pick"
train sft sft_even "$models-even"
train sft sft_few "$models-few"
train sft sft_many "$models-many"
train sft sft_write "$models-sft"
measure sft "$models-sft" "${users[@]}" 'settings=["none", "full", "truth"]'

for mode in ica pba; do
    train dpo "dpo_$mode" "$models-dpo-$mode"
    measure "dpo-$mode" "$models-dpo-$mode" alignment.reference="$models-sft" \
        alignment.data="$out/heldout_alignx.jsonl" alignment.mode="$mode"
done

train grpo grpo "$models-rl"
measure rl "$models-rl" "${users[@]}" \
    'settings=["none", "full", "streaming", "flipped", "truth", "profile"]'

"$python" - "$models-rl" "$models" <<'END'
"""The last checkpoint under its name, in bfloat16, as the engine serves it."""
import sys
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from training.checkpoint import save, write_card
from training.exceptions import warn_on_failure

last, out = map(Path, sys.argv[1:])
save(AutoModelForCausalLM.from_pretrained(last), AutoTokenizer.from_pretrained(last), out, dtype="bfloat16")
with warn_on_failure("writing the model card", f"the weights are in {out}"):
    write_card((last / "README.md").read_text(encoding="utf-8").replace(last.name, out.name), [out])
END

"$python" -m evaluation evaluation/configs/report.toml out="$out" report="$out/report"
cp -r "$out/report" "$models/report"
echo "$models"
