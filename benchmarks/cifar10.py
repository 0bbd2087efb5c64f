"""Train the CIFAR-10 experiments at full length on one GPU, and score 50,000 samples against the training set.

    GAN_DATA_DIR=data python benchmarks/cifar10.py                   # all experiments, wgan_gp first; hours
    GAN_DATA_DIR=data python benchmarks/cifar10.py --only wgan_gp --minutes 8
    GAN_DATA_DIR=data python benchmarks/cifar10.py --tiny            # the same on a CPU, in minutes

The same command resumes experiments that were interrupted, also by ``--minutes``. Each experiment writes one file to
benchmarks/results/full, with the curve, the scores with their cards, and the training time; results.py writes the page.
Inception's weights are downloaded, or read from ``--inception``.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from throughput import this_machine

from gan_lightning.io.files import atomic_write
from gan_lightning.run.checkpoint import read

ROOT = Path(__file__).parent.parent
RUNS, RESULTS = ROOT / "runs" / "full", ROOT / "benchmarks" / "results" / "full"
EMA = "model.ema_decay=0.999"
EXPERIMENTS = {
    "wgan_gp": ["experiment=wgan_gp_cifar10", "trainer.compile=true", EMA],
    "dcgan": ["experiment=dcgan_cifar10", EMA],
    "acgan": ["experiment=acgan_cifar10", EMA],
    "cgan": ["experiment=dcgan_cifar10", "model=cgan", EMA],
    "wgan": ["experiment=wgan_cifar10", EMA],
}
FAST = ["trainer=gpu", "trainer.precision=bf16-mixed", "trainer.tf32=true", "trainer.channels_last=true"]
EVALUATION = ["feature=inception", "protocol=10k_train", "metric=fid", "eval.every_n_steps=10000"]
TINY = ["trainer=cpu", "trainer.max_steps=4", "network.width=4", "data.limit=200", "feature=classifier",
        "feature.epochs=1", "eval.every_n_steps=2", "eval.num_generated=64"]  # fmt: skip


def command(program: str) -> list[str]:
    """Return the command line that runs a command of gan-lightning with this interpreter."""
    return [sys.executable, "-c", f"from gan_lightning.cli.{program} import main; main()"]


def train(run: Path, words: list[str], weights: list[str], minutes: float | None) -> int:
    """Start or resume a run for a number of minutes; return the exit status. ``seconds`` has the total time."""
    started = (run / "checkpoints" / "last.ckpt").exists()
    line = [f"hydra.run.dir={run}", *(["ckpt_path=last"] if started else words), *weights]
    since, before = time.time(), training_seconds(run)
    try:
        with subprocess.Popen([*command("train"), *line]) as process:
            try:
                process.wait(None if minutes is None else 60 * minutes)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)  # it finishes its step and writes a checkpoint
            except KeyboardInterrupt:  # the terminal has sent SIGINT to the child, too
                process.wait()
                raise
            return process.wait()
    finally:
        with atomic_write(run / "seconds", "w") as file:
            file.write(str(before + time.time() - since))


def training_seconds(run: Path) -> float:
    """Return the seconds that a run has been trained for, over all processes."""
    return float((run / "seconds").read_text()) if (run / "seconds").exists() else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=EXPERIMENTS, help="run this experiment only")
    parser.add_argument("--minutes", type=float, help="stop each experiment after this time, to be resumed")
    parser.add_argument("--inception", help="file with Inception's weights, if they cannot be downloaded")
    parser.add_argument("--tiny", action="store_true", help="four steps of narrow networks on a CPU")
    args = parser.parse_args()
    weights = [f"feature.weights={Path(args.inception).expanduser().resolve()}"] if args.inception else []
    weights = [] if args.tiny else weights
    runs, results = (place / "tiny" if args.tiny else place for place in (RUNS, RESULTS))
    for name in [args.only] if args.only else EXPERIMENTS:
        run, file = runs / name, (runs if args.tiny else results) / f"{name}.json"
        report = json.loads(file.read_text()) if file.exists() else {}
        if report.get("finished"):
            continue
        words = [*EXPERIMENTS[name], *(TINY if args.tiny else [*FAST, *EVALUATION])]
        status = train(run, words, weights, args.minutes)
        if status not in (0, 128 + signal.SIGTERM):
            sys.exit(f"{name}: training ended with status {status}")
        evaluations = run / "evaluation.jsonl"  # missing if the run was stopped before its first evaluation
        curve = [json.loads(line) for line in evaluations.read_text().splitlines()] if evaluations.exists() else []
        settings = ["eval.num_generated=64"] if args.tiny else ["protocol=50k_train", "metric=default", *weights]
        out = run / "final"
        evaluate = [*command("evaluate"), str(run), "which=last", *settings, f"out={out}"]
        for suffix in (".json", ".csv"):
            out.with_suffix(suffix).unlink(missing_ok=True)
        if status := subprocess.run(evaluate).returncode:
            sys.exit(f"{name}: evaluation ended with status {status}")
        outcome = json.loads((run / "result.json").read_text())
        step = read(run / "checkpoints" / "last.ckpt")["global_step"]
        report |= {"overrides": [*words, *weights], "seconds": training_seconds(run), "step": step}
        report |= {"finished": outcome["status"] == "finished", "machine": this_machine()}
        report |= {} if args.tiny else {"device": torch.cuda.get_device_name()}
        report["curve"] = [[entry["step"], entry["value"]] for entry in curve if entry["metric"] in ("fid", "fd")]
        report["final"] = json.loads(out.with_suffix(".json").read_text())["rows"]
        with atomic_write(file, "w") as handle:
            json.dump(report, handle, indent=1)
        print(
            f"{name}: step {report['step']:,} after {report['seconds'] / 60:.0f} min of training and evaluation, {file}"
        )


if __name__ == "__main__":
    main()
