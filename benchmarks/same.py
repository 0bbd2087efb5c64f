"""Numerical effect of the optimisations: losses of the same hundred steps with and without them.

    python benchmarks/same.py          # minutes; writes same.json and the table of docs/benchmarks.md

Each variant is compared with the plain loop of the speed benchmark, from the same weights, on the same minibatches and
random numbers, and with itself under other settings of the trainer. gan-lightning skips unused gradients, passes real
and fake samples through D at once if it can, and uses fused optimizers. That changes only the order of sums, as double
precision shows. In single precision the difference starts at the last digit, and training amplifies it step by step.
"""

import copy
import json
from pathlib import Path
from typing import Any
from unittest import mock

import plain_loop
import torch
from pytorch_lightning import Callback, Trainer
from throughput import PAGE, VARIANTS, composed, run, this_machine
from torch import Tensor

from gan_lightning import seed as seeds
from gan_lightning.data.datamodule import StepBatchLoader
from gan_lightning.model.gan import GAN

STEPS = 100
SHOWN = 1, 10, STEPS
MARKS = "<!-- same -->", "<!-- end of same -->"
SMALL = ["data=digits", "data.image_size=32", "data.batch_size=16", "network.width=8"]

# By setting: overrides, and additional overrides of the other side; None is the plain loop.
COMPARED: dict[str, tuple[list[str], list[str] | None]] = {
    **{f"{name}, the plain loop": ([f"model={name}", *SMALL], None) for name in ("vanilla", *VARIANTS)},
    "wgan_gp with network=resnet, the plain loop": (["model=wgan_gp", "network=resnet", *SMALL], None),
    **{
        f"{name}, {option}": ([f"model={name}", *SMALL], words)
        for name in ("dcgan", "wgan_gp")
        for option, words in {
            "channels first": ["trainer.channels_last=false"],
            "optimizers not fused": [
                f"model.{network}_optimizer.fused=false" for network in ("generator", "discriminator")
            ],
            "compiled": ["trainer.compile=true", "trainer.channels_last=false"],
        }.items()
    },
}


class Plain(Callback):
    """Runs the plain loop before the first training step, from the same weights, minibatches and random numbers.

    Attributes:
        losses: Losses of D and G at each step (steps, 2); of D the last one in a step.
    """

    def on_train_start(self, trainer: Trainer, module: GAN) -> None:
        """Run the plain loop for max_steps."""
        data, recorded = trainer.datamodule, {"d_loss": [], "g_loss": []}
        samples, rng = data.scale(data.samples, module.dtype), torch.Generator()
        loader = StepBatchLoader(samples, data.labels, **data.steps())
        pairs = [pair for x, y in loader for pair in zip(x.chunk(module.d_steps), y.chunk(module.d_steps), strict=True)]

        def record(name: str) -> Any:
            loss = getattr(plain_loop, name)

            def loss_and_record(*args: Any) -> Tensor:
                value = loss(*args)
                recorded[name].append(value.detach())
                return value

            return mock.patch.object(plain_loop, name, loss_and_record)

        def draw(name: str) -> Any:
            sampler = getattr(torch, name)
            return mock.patch.object(torch, name, lambda *shape, **_: sampler(*shape, generator=rng))

        patched_loader = mock.patch.object(plain_loop, "DataLoader", return_value=pairs)
        with (
            trainer.precision_plugin.forward_context(),
            patched_loader,
            record("d_loss"),
            record("g_loss"),
            draw("rand"),
            draw("randn"),
        ):
            networks = copy.deepcopy(plain_loop.networks_of(module))
            loop = plain_loop.plain_loop(module, networks, samples, data.labels, data.batch_size)
            for step in range(trainer.max_steps):
                rng.manual_seed(seeds.mix(module.seed, seeds.TRAINING_STEP, step))
                next(loop)
        last = recorded["d_loss"][module.d_steps - 1 :: module.d_steps]
        self.losses = torch.stack([torch.stack(last), torch.stack(recorded["g_loss"])], 1)


def losses(trainer: Trainer) -> Tensor:
    """Return the losses of D and G at each step of a run (steps, 2); of D the last one in a step."""
    history = trainer.lightning_module.history
    return torch.stack([torch.stack([sum(terms[network].values()) for network in "dg"]) for _, terms in history])


def largest_differences(overrides: list[str], more: list[str] | None, precision: str) -> list[float]:
    """Return the largest difference of a loss within the first steps, relative to the largest loss."""
    given = [*overrides, f"trainer.precision={precision}", f"trainer.max_steps={STEPS}", "~callbacks.sample_grid"]
    given += ["trainer.channels_last=true"] if precision == "64-true" else []  # by default on in float32 only
    if more is None:
        trainer = run(composed(given, "cpu", f"+callbacks.plain={{_target_: {Plain.__module__}.Plain}}"))
        other = next(callback for callback in trainer.callbacks if isinstance(callback, Plain)).losses
    else:
        trainer = run(composed(given, "cpu"))
        other = losses(run(composed(given, "cpu", *more)))
    ours = losses(trainer)
    return [float((ours - other)[:step].abs().max() / other[:step].abs().max()) for step in SHOWN]


def main() -> None:
    torch.set_num_threads(1)
    report: dict[str, Any] = {"machine": this_machine(), "apart": {}}
    lines = ["| ours against | float64, 100 steps | float32, 1 step | 10 steps | 100 steps |", "|---|---|---|---|---|"]
    for name, compared in COMPARED.items():
        double, single = (largest_differences(*compared, precision) for precision in ("64-true", "32-true"))
        report["apart"][name] = {"steps": SHOWN, "double": double, "single": single}
        lines.append(f"| {name} | " + " | ".join(f"{value:.1g}" for value in (double[-1], *single)) + " |")
        print(lines[-1], flush=True)
    Path(__file__).with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    before, after = PAGE.read_text().split(MARKS[0])[0], PAGE.read_text().split(MARKS[1])[1]
    PAGE.write_text("\n".join([before + MARKS[0], *lines, MARKS[1] + after]))


if __name__ == "__main__":
    main()
