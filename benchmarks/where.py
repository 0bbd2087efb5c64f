"""Profile a training step with torch's profiler: share of the wall-clock time by kind of operation.

    python benchmarks/where.py          # prints a table

Each setting runs ten warm-up steps and twenty profiled steps, with one thread, so that the times of the operations add
up. The rest of the wall-clock time is Python, Lightning and the profiler.
"""

from collections import Counter
from time import perf_counter
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from throughput import SETTINGS, composed, run
from torch.profiler import ProfilerActivity, profile

from gan_lightning.model.gan import GAN

OTHER = "other tensor operations"
KINDS = {  # the first match counts
    "random numbers": ("normal_", "rand", "uniform_"),
    "convolutions": ("conv",),
    "matrix products": ("mm", "linear", "dot"),
    "BatchNorm, LayerNorm": ("batch_norm", "layer_norm", "group_norm"),
    "optimizers": ("adam", "_foreach", "rmsprop"),
    "indexing and scaling data": ("index_select",),
}
SHOWN = "vanilla points", "vanilla mlp 32", "dcgan conv 32", "wgan conv 32", "wgan_gp conv 32"


class ProfileSteps(Callback):
    """Profiles steps 11 to 30."""

    def on_train_batch_start(self, trainer: Trainer, module: GAN, *_: Any) -> None:
        """Start the profiler after ten steps."""
        if trainer.global_step == 10:
            self.since, self.profiler = perf_counter(), profile(activities=[ProfilerActivity.CPU])
            self.profiler.start()

    def on_train_batch_end(self, trainer: Trainer, module: GAN, *_: Any) -> None:
        """Stop the profiler after thirty steps."""
        if trainer.global_step == 30:
            self.took = perf_counter() - self.since
            self.profiler.stop()


def shares(overrides: list[str]) -> dict[str, float]:
    """Return the share of the wall-clock time of each kind of operation."""
    watch = f"{{_target_: {ProfileSteps.__module__}.ProfileSteps}}"
    trainer = run(composed(overrides, "cpu", "trainer.max_steps=30", f"+callbacks.watch={watch}"))
    watch = next(callback for callback in trainer.callbacks if isinstance(callback, ProfileSteps))
    took: Counter[str] = Counter()
    for event in watch.profiler.key_averages():
        name = event.key.lower()
        kind = next((kind for kind, words in KINDS.items() if any(word in name for word in words)), OTHER)
        took[kind] += event.self_cpu_time_total / 1e6 / watch.took if "::" in name or "_foreach" in name else 0
    return {kind: took[kind] for kind in (*KINDS, OTHER)} | {"overhead": 1 - sum(took.values())}


def main() -> None:
    torch.set_num_threads(1)
    found = {name: shares(SETTINGS[name][0]) for name in SHOWN}
    print("| |" + "".join(f" {name} |" for name in found) + "\n|---" + "|---" * len(found) + "|")
    for kind in next(iter(found.values())):
        print(f"| {kind} |" + "".join(f" {row[kind]:.1%} |" for row in found.values()))


if __name__ == "__main__":
    main()
