#!/bin/bash
# Makes one run of runs.txt; written by sim submit.
#SBATCH --job-name=sim-multistep
#SBATCH --array=1-4%32
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --signal=TERM@60
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output="ROOT/my runs/slurm/multistep/1/run-%a.log"
#SBATCH --partition=gpu
cd ROOT || exit 1
run=$(sed -n "$((SLURM_ARRAY_TASK_ID + ${1:-0}))p" 'ROOT/my runs/slurm/multistep/1/runs.txt')
# No trap: after scancel this shell ends with its step, and nothing is queued again.
eval "srun --ntasks=1 --cpus-per-task=1 $run"
code=$?
if [ "$code" = 75 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 20 ]; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
