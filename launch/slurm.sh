#!/usr/bin/env bash
# SFT, pairs, DPO and evaluation of a recipe folder as Slurm jobs, each after the one before; run where `sbatch` runs, in a
# checkout and an environment that all nodes share. Options after the folder are sbatch's:
#
#     bash launch/slurm.sh recipes/solar --nodes 2 --gpus-per-node 8 --time 12:00:00 --partition gpu
#     STAGES="dpo evaluate" CONFIG=accelerate_configs/zero3.yaml bash launch/slurm.sh recipes/solar --nodes 2 …
#
# Five minutes before its time runs out, or when it is pre-empted, a job saves and is queued again; after a node's death it goes
# on from the last whole checkpoint. A mistake to mend (exit code 2) ends the job, and the jobs after it are cancelled.
#SBATCH --requeue
#SBATCH --open-mode append
#SBATCH --ntasks-per-node 1
#SBATCH --signal TERM@300
set -euo pipefail

if [ "${1:-}" != --job ]; then
    cd "$(dirname "$0")/.."
    recipes=${1:?"a folder of recipes, for example recipes/solar"}
    shift
    mkdir -p outputs/slurm
    previous=
    for stage in ${STAGES:-sft preferences dpo evaluate}; do
        previous=$(sbatch --parsable --job-name "$(basename "$recipes")-$stage" --output outputs/slurm/%x-%j.txt \
            --kill-on-invalid-dep yes ${previous:+--dependency "afterok:$previous"} "$@" launch/slurm.sh --job "$recipes" "$stage")
        previous=${previous%%;*}
        echo "$stage: job $previous, outputs/slurm/$(basename "$recipes")-$stage-$previous.txt"
    done
    exit
fi

recipes=$2 stage=$3
MACHINES=$SLURM_JOB_NUM_NODES
ADDRESS=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
ADDRESS=${ADDRESS%%$'\n'*} # the first; `| head` would end scontrol by SIGPIPE
PORT=$((20000 + SLURM_JOB_ID % 10000))
export MACHINES ADDRESS PORT ${SLURM_CPUS_PER_TASK:+SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"}
code=0
# shellcheck disable=SC2016 # the node's own variables
srun --kill-on-bad-exit=1 bash -c 'MACHINE=$SLURM_NODEID GPUS=${SLURM_GPUS_ON_NODE:-1} exec bash launch/stage.sh "$@"' \
    stage "$recipes" "$stage" || code=$?
if [ "$code" -eq 143 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "${MOST_RESTARTS:-100}" ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
