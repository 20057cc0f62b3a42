#!/usr/bin/env bash
# The whole chain that makes models/alignx-small, the adapter that `make up` serves: rows, SFT, DPO (ICA, PBA), GRPO,
# evaluation, adapter. Called again, it goes on behind the last step that is done, and within a stage from the stage's
# last checkpoint. HOURS=2.5 ends a stage's part after so long with status 75.
#
#     training/runs/small.sh                         everything to var/train/small
#     training/runs/small.sh --tiny                  the same on a model too small to learn, until vLLM answers
source "$(dirname "$0")/steps.sh"
size=small
[ "${1:-}" = --tiny ] && size=nano
configs=training/configs/$size
out=var/train/$size

train() { # stage:config …
    local stage
    for stage in "$@"; do
        step "${stage#*:}" "$python" -m "training.${stage%:*}" "$configs/${stage#*:}.toml" ${HOURS:+run.hours="$HOURS"}
    done
}

align() { # mode checkpoint reference
    measure "dpo-$1" "$2" "$3" alignment.reference="$3" alignment.data="$out/heldout_alignx.jsonl" alignment.mode="$1"
}

if [ $size = small ]; then
    base=var/models/SmolLM2-135M-Instruct
    users=(data="$out/heldout_upi.jsonl" 'settings=["none", "full", "streaming", "flipped", "truth", "profile"]'
        protocol.choice=likelihood protocol.sampling.max_tokens=480)
    step base "$engine" docker/merge_adapter.py models/alignx-small var/models
    step corpus "$python" -m training.corpus.make "$configs/corpus.toml"
    train sft:sft dpo:dpo_ica dpo:dpo_pba grpo:grpo
    align ica "$out/dpo-ica" "$out/sft"
    align pba "$out/dpo-pba" "$out/dpo-ica"
else
    base=$out/init
    users=(data="$out/heldout_upi.jsonl" 'settings=["none", "full", "streaming", "profile"]'
        protocol.sampling.max_tokens=48)
    step corpus "$python" -m training.corpus.make "$configs/corpus.toml"
    step tokenizer "$python" -m training.tokenizer "$configs/tokenizer.toml"
    train sft:sft dpo:dpo_ica dpo:dpo_pba grpo:grpo_jud grpo:grpo_gen grpo:grpo_streaming
    align ica "$out/dpo-ica" "$out/sft"
    align pba "$out/dpo-pba" "$out/sft"
fi
step adapter "$python" -m training.runs.extract_adapter "$configs/adapter.toml"
for stage in sft rl; do
    measure $stage "$out/$stage" "$base" "${users[@]}"
    step "summaries-$stage" "$python" -m evaluation.suites.summaries evaluation/configs/summaries.toml \
        model="$out/$stage" output="$out/summaries/$stage.json" $([ $size = nano ] && echo users=8 new_tokens=48)
done
report
if [ $size = nano ]; then
    step served "$python" -m evaluation.vllm_check "$out/rl" --data "$out/heldout_upi.jsonl" --engine-python "$engine"
    cat "$out/served.log"
fi
