"""Where the time of a step goes, as torch's profiler tells it: share of the wall clock by kind of operation.

    python benchmarks/where.py          # prints a table

Each setting plays ten steps to warm up and twenty that are profiled, with one thread, so that the operations' times add
up; what is left of the wall clock is Python, Lightning and the profiler itself.
"""

from collections import Counter
from time import perf_counter
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from throughput import SETTINGS, composed, run
from torch.profiler import ProfilerActivity, profile

from gan_lightning.model.gan import GAN

KINDS = {  # the first that fits
    "random numbers": ("normal_", "rand", "uniform_"),
    "convolutions": ("conv",),
    "matrix products": ("mm", "linear", "dot"),
    "BatchNorm, LayerNorm": ("batch_norm", "layer_norm", "group_norm"),
    "optimizers": ("adam", "_foreach", "rmsprop"),
    "gathering and scaling data": ("index_select",),
}
SHOWN = "vanilla points", "vanilla mlp 32", "dcgan conv 32", "wgan conv 32", "wgan_gp conv 32"


class Watch(Callback):
    """Profiles the steps from the tenth to the thirtieth."""

    def on_train_batch_start(self, trainer: Trainer, module: GAN, *_: Any) -> None:
        """Begin at the tenth step."""
        if trainer.global_step == 10:
            self.since, self.profiler = perf_counter(), profile(activities=[ProfilerActivity.CPU])
            self.profiler.start()

    def on_train_batch_end(self, trainer: Trainer, module: GAN, *_: Any) -> None:
        """End at the thirtieth."""
        if trainer.global_step == 30:
            self.took = perf_counter() - self.since
            self.profiler.stop()


def shares(overrides: list[str]) -> dict[str, float]:
    """Share of the wall clock of each kind of operation."""
    watch = f"{{_target_: {Watch.__module__}.Watch}}"
    trainer = run(composed(overrides, "cpu", "trainer.max_steps=30", f"+callbacks.watch={watch}"))
    watch = next(guest for guest in trainer.callbacks if isinstance(guest, Watch))
    took: Counter[str] = Counter()
    for event in watch.profiler.key_averages():
        name = event.key.lower()
        kind = next((kind for kind, words in KINDS.items() if any(word in name for word in words)), "other tensors")
        took[kind] += event.self_cpu_time_total / 1e6 / watch.took if "::" in name or "_foreach" in name else 0
    return {kind: took[kind] for kind in (*KINDS, "other tensors")} | {"the rest": 1 - sum(took.values())}


def main() -> None:
    torch.set_num_threads(1)
    found = {name: shares(SETTINGS[name][0]) for name in SHOWN}
    print("| |" + "".join(f" {name} |" for name in found) + "\n|---" + "|---" * len(found) + "|")
    for kind in next(iter(found.values())):
        print(f"| {kind} |" + "".join(f" {row[kind]:.1%} |" for row in found.values()))


if __name__ == "__main__":
    main()
