# What the chains of this folder have in common; each sources it, sets `out` and takes steps. PYTHON and ENGINE_PYTHON
# name the interpreters of the two environments.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${PYTHON:-.venv-training/bin/python}
engine=${ENGINE_PYTHON:-.venv-engine/bin/python}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)} TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

step() { # name command …: nothing where it is done; one line with the seconds, the step's words only when it fails
    local name=$1 started=$SECONDS log="$out/$1.log" status=0
    shift
    mkdir -p "$out/done"
    if [ -e "$out/done/$name" ]; then
        echo "$name: done before"
        return
    fi
    "$@" >>"$log" 2>&1 || status=$?
    if [ $status -eq 75 ]; then
        echo "$name: $(grep "the same command goes on" "$log" | tail -n 1)"
        exit 75
    elif [ $status -ne 0 ]; then
        tail -n 40 "$log" >&2
        echo "$name failed after $((SECONDS - started)) s; all it said is in $log" >&2
        exit 1
    fi
    touch "$out/done/$name"
    echo "$name: $((SECONDS - started)) s"
}

measure() { # stage checkpoint judge field …
    step "evaluate-$1" "$python" -m evaluation evaluation/configs/stage.toml stage="$1" model="$2" judge="$3" \
        out="$out/results/$1.json" "${@:4}"
}

report() {
    step report "$python" -m evaluation evaluation/configs/report.toml out="$out" report="$out/report"
}
