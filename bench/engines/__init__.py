"""Where cells are made: `local` (processes of this machine), `ray` (a cluster), `slurm` (shards as batch jobs).

All make the same cells with the same bytes; the runner plans, claims and stores them, whoever works.
"""
