#!/usr/bin/env bash
# The whole pipeline on a laptop without a GPU: a real base model that loops for ever becomes one that answers in polite,
# finished Korean under plain greedy decoding. `make quickstart` sets up the environment and calls this; about 18 minutes on
# two cores. Every stage is one script and one recipe, can be run alone, and is skipped here when its output is whole,
# newer than the recipes, and no stage before it ran (remove outputs/quickstart and data/quickstart to start over).
#
#     bash scripts/quickstart.sh SFT    # what is missing up to that stage, for the make targets that start from its output
set -euo pipefail
until=${1:-}
case $until in '' | SFT | preferences | DPO) ;; *)
    echo "error: scripts/quickstart.sh: there is no stage $until to stop at; expected SFT, preferences or DPO" >&2
    exit 2
    ;;
esac
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
R=recipes/quickstart
export HF_HUB_OFFLINE=1 PYTHONWARNINGS=ignore DS_ACCELERATOR=cpu
mkdir -p outputs/quickstart
TIMES=outputs/quickstart/times.tsv
start_of_all=$SECONDS

# stage TITLE MARKER COMMAND...: run a stage unless MARKER (the file it writes last) is there and newer than the recipes; of the
# stages up to a given one, only what is missing
stage() {
    local title=$1 marker=$2 start=$SECONDS word
    shift 2
    if [ -f "$marker" ] && ! grep -qs '"nothing_to_do"' "$marker" && ! grep -qs '"finished": null' "$(dirname "$marker")/training_run.json" && [ -z "$newer" ] &&
        { [ -n "$until" ] || [ -z "$(find "$R" -type f -newer "$marker" -print -quit)" ]; }; then
        [ -n "$until" ] || printf '\n── %s: done before (%s)\n' "$title" "$marker"
        stop_at "$title"
        return
    fi
    newer=yes # what follows was made from older input
    printf '\n── %s\n' "$title"
    printf '  '
    for word in "${@/#$PYTHON/python}"; do
        case $word in *' '*) printf " '%s'" "$word" ;; *) printf ' %s' "$word" ;; esac
    done
    printf '\n'
    "$@"
    printf '%s\t%d\n' "$title" $((SECONDS - start)) >>"$TIMES"
    printf '   %s: %d s\n' "$title" $((SECONDS - start))
    stop_at "$title"
}

stop_at() { # TITLE: "2 SFT"
    if [ "${1#* }" = "$until" ]; then exit 0; fi
}

newer=
stage "0 base model" "${ALIGN_KO_CACHE:-$HOME/.cache/align_ko}/quickstart-model/config.json" "$PYTHON" scripts/prepare_model.py quickstart
newer=
[ -f data/quickstart/sft/report.json ] || : >"$TIMES"
# A fifth as many spoilt rows are mixed in, so that curation has something to find.
stage "1a spoil a copy" data/quickstart/spoilt.key.jsonl "$PYTHON" $R/data/spoil.py
stage "1 curate" data/quickstart/sft/report.json "$PYTHON" scripts/build_sft_data.py $R/data.yaml
stage "2 SFT" outputs/quickstart/sft/manifest.json "$PYTHON" scripts/run_sft.py $R/sft.yaml
stage "3 preferences" data/quickstart/preferences/manifest.json "$PYTHON" scripts/build_preferences.py $R/preferences.yaml
stage "4 DPO" outputs/quickstart/dpo/manifest.json "$PYTHON" scripts/run_dpo.py $R/dpo.yaml
stage "5 own answers" outputs/quickstart/own_answers/manifest.json "$PYTHON" scripts/evaluate.py $R/own_answers.yaml
stage "6 distil" outputs/quickstart/distilled/manifest.json "$PYTHON" scripts/run_sft.py $R/distill.yaml
stage "7 evaluate" outputs/quickstart/evaluation/manifest.json \
    "$PYTHON" scripts/evaluate.py $R/evaluate.yaml --models '{distilled: outputs/quickstart/distilled}'

printf '\nSeconds per stage:\n'
cat "$TIMES"
printf '%d minutes and %d seconds in all. Talk with the result:\n' $(((SECONDS - start_of_all) / 60)) $(((SECONDS - start_of_all) % 60))
printf '    .venv/bin/python scripts/chat.py --model-path outputs/quickstart/distilled\n'
printf 'All stages on one page:\n    .venv/bin/python scripts/index.py outputs/quickstart\n'
