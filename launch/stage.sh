#!/usr/bin/env bash
# One stage of a recipe folder, on this machine's share of the GPUs; slurm.sh and skypilot.yaml start it on every machine.
#
#     MACHINES=2 MACHINE=0 ADDRESS=10.0.0.1 GPUS=8 CONFIG=accelerate_configs/zero3.yaml bash launch/stage.sh recipes/solar sft
#
# Further words are the stage's own flags. Exit code 143: stopped by SIGTERM, the same command goes on from what it saved.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
recipes=$1 stage=$2
shift 2
config=${CONFIG:-accelerate_configs/zero2.yaml}
case $stage in
    sft | dpo | grpo) script=run_$stage ;;
    distill) script=run_sft ;;
    preferences) script=build_preferences ;;
    evaluate) script=evaluate ;;
    *)
        echo "error: launch/stage.sh: there is no stage $stage; expected sft, preferences, dpo, grpo, distill or evaluate" >&2
        exit 2
        ;;
esac
case $script-$config in
    # Each process answers with a whole model of its own; under FSDP transformers would load weights in the first one only.
    build_*zero* | build_*fsdp* | evaluate*zero* | evaluate*fsdp*) config=accelerate_configs/ddp.yaml ;;
esac
machines=${MACHINES:-1}
exec "${PYTHON:-python}" scripts/launch.py --config_file "$config" --num_processes $((machines * ${GPUS:-1})) \
    --num_machines "$machines" --machine_rank "${MACHINE:-0}" \
    --main_process_ip "${ADDRESS:-127.0.0.1}" --main_process_port "${PORT:-29500}" \
    "scripts/$script.py" "$recipes/$stage.yaml" "$@"
