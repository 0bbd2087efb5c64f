"""Environment variables by which launchers (torchrun, Slurm's srun) describe the processes of a run."""

import os

# The rank of this process and the number of processes, as each launcher sets them.
RANKS = {"RANK": "WORLD_SIZE", "LOCAL_RANK": "WORLD_SIZE", "SLURM_PROCID": "SLURM_NTASKS"}


def launch_variables() -> dict[str, str]:
    """Return the variables that are set; without Slurm's in an interactive shell, where Lightning ignores them too."""
    names = dict.fromkeys([*RANKS, *RANKS.values(), "NODE_RANK"])
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return {n: os.environ[n] for n in names if n in os.environ and not (interactive and n.startswith("SLURM"))}


def num_processes() -> int:
    """Return the number of processes that a launcher has started for this run; 1 without a launcher."""
    found = launch_variables()
    return max(int(found.get(name, 1)) for name in RANKS.values())


def is_rank_zero() -> bool:
    """Return whether this process has rank zero; with several nodes, NODE_RANK numbers them."""
    found = launch_variables()
    return not any(int(found.get(name, 0)) for name in (*RANKS, "NODE_RANK"))


def errors_of_launch() -> list[str]:
    """Return an error for each variable that no launcher sets so, as those left in a shell by another job."""
    found = launch_variables()
    wrong = [name for name, value in found.items() if not (value.isdecimal() and value.isascii())]
    if wrong:
        return [f"{name}={found[name]}: this environment variable must be a whole number; unset it" for name in wrong]
    errors = []
    for name, size in RANKS.items():
        if 0 < int(found.get(name, 0)) >= int(found.get(size, 1)):
            errors.append(
                f"{name}={found[name]}: a rank in the environment, but {size} is {found.get(size, 'not set')}; "
                f"unset {name}, or start the run with torchrun or srun"
            )
    rank, job = os.environ.get("SLURM_PROCID", "0"), os.environ.get("SLURM_JOB_NAME")
    if "SLURM_PROCID" not in found and rank != "0":  # several processes, each of which would be a run of its own
        errors.append(
            f"SLURM_PROCID={rank}: Lightning ignores Slurm's variables in a job named {job}; "
            "start the run with srun --job-name=NAME, or unset SLURM_PROCID"
        )
    if int(found.get("SLURM_NTASKS", 1)) > 1 and "SLURM_NTASKS_PER_NODE" not in os.environ:
        tasks = found["SLURM_NTASKS"]
        errors.append(
            f"SLURM_NTASKS={tasks}: Lightning needs --ntasks-per-node={tasks} in place of --ntasks={tasks}; on one "
            "device, --ntasks=1"
        )
    return errors


def error_of_nodes(num_nodes: int) -> str | None:
    """Return an error message if the environment gives this node a number, and the run has a single node."""
    rank = launch_variables().get("NODE_RANK", "0")
    if num_nodes != 1 or not rank.isdecimal() or not int(rank):
        return None
    return f"NODE_RANK={rank}: the number of a node in the environment, but trainer.num_nodes=1; unset NODE_RANK"
