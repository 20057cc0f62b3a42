#!/usr/bin/env bash
# MoCaE: rows of three axes, an expert each, their merges on a grid, the router, and what all that is worth. Called again,
# it goes on behind the last step that is done.
#
#     training/runs/mocae.sh                         by training/configs/full, at 7B
#     training/runs/mocae.sh --tiny                  on a model too small to learn, until vLLM serves the merges
#
# JUDGE names the URL of an engine for win rates over the base.
source "$(dirname "$0")/steps.sh"
size=full
[ "${1:-}" = --tiny ] && size=nano
config=training/configs/$size/mocae.toml
expert=training/configs/$size/mocae_expert.toml
out=var/train/$size/mocae

step rows "$python" -m training.mocae.axis_rows "$config"
if [ $size = nano ]; then
    step base "$python" -m training.tokenizer training/configs/nano/tokenizer.toml 'data=["'"$out"'/helpful.jsonl"]' output="$out/base"
fi
for axis in helpful harmless honest; do
    step "$axis" "$python" -m training.sft "$expert" 'data.train=["'"$out/$axis"'.jsonl"]' run.output="$out/$axis"
done
step merge "$python" -m training.mocae.merge "$config"
step router "$python" -m training.mocae.router "$config"
step measure "$python" -m evaluation.suites.mocae "$config" ${JUDGE:+judge="$JUDGE"}
step report "$python" -m evaluation.reporting.mocae_report "$out/result.json"
if [ $size = nano ]; then
    step served "$python" -m evaluation.suites.adapters_check "$config"
    cat "$out/served.log"
fi
