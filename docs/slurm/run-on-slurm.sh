#!/bin/bash
# A Ray cluster inside one SLURM job, and the harness on it. Submit from a folder that all nodes see:
#   sbatch --nodes 4 --gpus-per-node 2 --time 8:00:00 run-on-slurm.sh --suite few-shot-11 --methods all --results results
# What stands behind the script's name goes to `python -m bench run`. Its cells are stored as they are made: submit the
# same line again after the time was up, and it goes on from there.
#SBATCH --job-name bench-ray
#SBATCH --ntasks-per-node 1
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode append
set -euo pipefail

nodes=($(scontrol show hostnames "$SLURM_JOB_NODELIST"))
head=${nodes[0]}
port=$((20000 + SLURM_JOB_ID % 20000)) # so that two jobs on one node do not meet
cpus=(${SLURM_CPUS_ON_NODE:+--num-cpus "$SLURM_CPUS_ON_NODE"})
gpus=(${SLURM_GPUS_ON_NODE:+--num-gpus "$SLURM_GPUS_ON_NODE"})
address=$(srun --nodes 1 --ntasks 1 --nodelist "$head" hostname --ip-address | awk '{print $1}')

# --block: srun keeps the step, and with it Ray, until this script ends
srun --overlap --nodes 1 --ntasks 1 --nodelist "$head" \
  ray start --head --node-ip-address "$address" --port "$port" "${cpus[@]}" "${gpus[@]}" --block &
if ((${#nodes[@]} > 1)); then
  srun --overlap --nodes $((${#nodes[@]} - 1)) --ntasks $((${#nodes[@]} - 1)) --exclude "$head" \
    ray start --address "$address:$port" "${cpus[@]}" "${gpus[@]}" --block &
fi

for _ in {1..60}; do # a minute for all nodes to come
  alive=$(srun --overlap --nodes 1 --ntasks 1 --nodelist "$head" python -c \
    "import ray; ray.init('$address:$port', log_to_driver=False); print(sum(n['Alive'] for n in ray.nodes()))" || echo 0)
  ((${alive##*$'\n'} == ${#nodes[@]})) && break
  sleep 1
done

# on the head's node, where this script runs
python -m bench run --executor ray --ray-address "$address:$port" "$@"
