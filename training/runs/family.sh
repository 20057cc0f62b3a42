#!/usr/bin/env bash
# The AlignX family from its published files to checkpoints and a table: what the files are, AlignXpert (DPO, ICA and
# PBA), AlignXplore (cold starts, RL by both rewards, streaming RL), AlignXplore+ (SFT, two-stage GRPO), the published
# evaluation. Called again, it goes on behind the last step that is done, and within a stage from its last checkpoint.
#
#     DATA=folder MODELS=folder JUDGE=URL training/runs/family.sh   by training/configs/full, on GPUS (8) of this machine
#     training/runs/family.sh --tiny                                a nano model and hand-written files, on a CPU
#
# PROMPTS names a profile file by services.prompts.official in place of our own sentences; HOURS=2.5 ends a stage's part
# after so long with status 75. What the folders hold, GPUs, hours and licences: docs/how-to/family.md.
source "$(dirname "$0")/steps.sh"
prompts=${PROMPTS:-alignxplore-plus}
protocol=(protocol.name=family protocol.prompts="$prompts" protocol.selection_prompts="$prompts")

if [ "${1:-}" = --tiny ]; then
    out=var/train/nano/family data=$out/data checkpoints=$out
    llama=$out/base r1=$out/base qwen=$out/base judge=$out/base
    launch=("$python" -m)
    xpert_ica=nano/dpo_ica xpert_pba=nano/dpo_pba cold_start=nano/sft cold_start_streaming=nano/sft plus_sft=nano/sft
    rl_jud=nano/grpo_jud rl_gen=nano/grpo_gen plus_rl=nano/grpo_streaming
    few=(optim.batch=4 optim.micro_batch=4 run.tensorboard=false)
    short=(optim.max_steps=1 run.save_every=1 grpo.new_tokens=16 run.tensorboard=false)
    reward_model=() plus_reward_model=() placed=()
    protocol+=(protocol.sampling.max_tokens=16)
    step files "$python" -m tests.chain.family_files "$data"
    step base "$python" -m training.tokenizer training/configs/nano/tokenizer.toml \
        'data=["'"$data"'/alignxploreplus/sft/rows.jsonl"]' output="$out/base"
else
    models=${MODELS:-models} data=${DATA:-data}
    out=${OUT:-var/train/full/family} checkpoints=$models
    llama=$models/Llama-3.1-8B-Instruct r1=$models/DeepSeek-R1-Distill-Qwen-7B qwen=$models/Qwen3-8B
    judge=${JUDGE:-$qwen}
    launch=("$python" -m training.runs.torchrun --nproc-per-node "${GPUS:-8}" -m)
    xpert_ica=full/alignxpert_ica xpert_pba=full/alignxpert_pba
    cold_start=full/alignxplore_cold_start cold_start_streaming=full/alignxplore_cold_start_streaming
    plus_sft=full/alignxplus_sft
    rl_jud=full/alignxplore_rl_jud rl_gen=full/alignxplore_rl_gen plus_rl=full/alignxplus_rl
    few=() short=()
    reward_model=(judge.path="$models/Qwen2.5-7B-Instruct") plus_reward_model=(judge.path="$qwen")
    protocol+=(protocol.sampling.max_tokens=4096) placed=(placement.device=cuda placement.dtype=bfloat16)
fi

train() { # script configuration rows start output field …
    step "$5" "${launch[@]}" "training.$1" "training/configs/$2.toml" 'data.train=["'"$data/$3"'"]' model.path="$4" \
        run.output="$checkpoints/$5" "${@:6}" ${HOURS:+run.hours="$HOURS"}
}

rows() { # reader source name
    if [ -e "$data/$2" ]; then
        step "rows-$3" "$python" -m evaluation.family "$1" "$data/$2" --out "$out/$3_upi.jsonl" \
            ${PROMPTS:+--prompts "$PROMPTS"}
        benchmarks+=("\"$3_upi\"")
    else
        echo "rows-$3: $data/$2 is absent, so it is not measured"
    fi
}

for file in alignx/train alignxplore/cold_start.json alignxplore/streaming_cold_start.json alignxplore/rl_train.json \
    alignxplore/streaming_rl_train.json alignxploreplus/sft alignxploreplus/rl; do
    step "inspect-$(basename "$(dirname "$file")")-$(basename "$file" .json)" \
        "$python" -m training.data.inspect "$data/$file"
done

train dpo $xpert_ica alignx/train "$llama" alignxpert-ica "${few[@]}"
train dpo $xpert_pba alignx/train "$llama" alignxpert-pba "${few[@]}"

train sft $cold_start alignxplore/cold_start.json "$r1" alignxplore-sft "${few[@]}"
first=$checkpoints/alignxplore-sft
train grpo $rl_jud alignxplore/rl_train.json "$first" alignxplore-rl-jud "${reward_model[@]}" "${short[@]}"
train grpo $rl_gen alignxplore/rl_train.json "$first" alignxplore-rl-gen "${reward_model[@]}" "${short[@]}"
train sft $cold_start_streaming alignxplore/streaming_cold_start.json "$r1" alignxplore-sft-streaming "${few[@]}"
train grpo $rl_jud alignxplore/streaming_rl_train.json "$checkpoints/alignxplore-sft-streaming" \
    alignxplore-rl-streaming grpo.reward=streaming "${reward_model[@]}" "${short[@]}"

train sft $plus_sft alignxploreplus/sft "$qwen" alignxplus-sft "${few[@]}"
train grpo $plus_rl alignxploreplus/rl "$checkpoints/alignxplus-sft" alignxplus-rl grpo.prompts="$prompts" \
    grpo.selection_prompts="$prompts" "${plus_reward_model[@]}" "${short[@]}"

for mode in ica pba; do
    measure alignxpert-$mode "$checkpoints/alignxpert-$mode" "$judge" alignment.reference="$llama" \
        alignment.data="$data/alignx/test.json" alignment.mode=$mode "${placed[@]}"
done
benchmarks=()
rows mind mind mind
rows amazon amazon amazon
rows movielens movielens movielens
rows selection alignx/test.json alignx
for style in concise_detail friendly_unfriendly student_phd; do
    rows selection alignx/psoups/$style.json $style
done
for name in alignxplus-sft alignxplus-rl; do
    step "evaluate-$name" "$python" -m evaluation evaluation/configs/stage.toml stage=$name model="$checkpoints/$name" \
        judge="$judge" out="$out" "benchmarks.names=[$(IFS=,; echo "${benchmarks[*]}")]" \
        'settings=["full", "streaming"]' "${protocol[@]}" "${placed[@]}"
done
report
echo "$out/report/accuracy.md"
