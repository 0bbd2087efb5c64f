"""Train models in tests, and record the weights and gradients before and after every update."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from torch import Tensor, nn

from gan_lightning.loss.non_saturating import NonSaturating
from gan_lightning.model.base import StepOutput
from gan_lightning.network.mlp import MLPDiscriminator, MLPGenerator


def weights(network: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in network.parameters()]


def gradients(network: nn.Module) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in network.parameters()]


def same(a: list[Tensor | None], b: list[Tensor | None]) -> bool:
    return len(a) == len(b) and all(
        (x is None and y is None) or (x is not None and y is not None and torch.equal(x, y))
        for x, y in zip(a, b, strict=True)
    )


@dataclass
class Snapshot:
    """Weights and gradients of both networks just before or after one optimizer's step."""

    network: str
    when: str
    step: int
    g: list[Tensor]
    d: list[Tensor]
    g_grad: list[Tensor | None]
    d_grad: list[Tensor | None]
    d_trainable: bool


@dataclass
class UpdateRecorder(Callback):
    """Records weights and gradients around each update, D's real minibatches, batches and numbers of samples."""

    snapshots: list[Snapshot] = field(default_factory=list)
    reals: list[Tensor] = field(default_factory=list)
    batches: list[Tensor] = field(default_factory=list)
    generated: list[int] = field(default_factory=list)

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        for name, optimizer in zip("gd", module.optimizers(use_pl_optimizer=False), strict=True):
            for when in ("pre", "post"):
                register = getattr(optimizer, f"register_step_{when}_hook")
                register(lambda *_, name=name, when=when: self.snapshots.append(self.snapshot(module, name, when)))
        module.generator.register_forward_hook(lambda net, args, out: self.generated.append(len(out)))
        loss = module.discriminator_loss

        def spy(real: Tensor, fake: Tensor, y: Tensor) -> Any:
            self.reals.append(real.clone())
            assert not fake.requires_grad
            return loss(real, fake, y)

        module.discriminator_loss = spy
        self.start = weights(module.generator), weights(module.discriminator)

    def snapshot(self, module: Any, network: str, when: str) -> Snapshot:
        g, d = module.generator, module.discriminator
        d_trainable = all(p.requires_grad for p in d.parameters())
        step = module.global_step
        return Snapshot(network, when, step, weights(g), weights(d), gradients(g), gradients(d), d_trainable)

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self.batches.append(batch[0].clone())


class Outputs(Callback):
    """Keeps the outputs of the last training step."""

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, *_: Any) -> None:
        self.last: dict[str, StepOutput] = outputs


def fit(
    model: Any, data: Any, steps: int = 2, *callbacks: Callback, ckpt_path: Path | None = None, **settings: Any
) -> Trainer:
    trainer = Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        callbacks=[*callbacks],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
    return trainer


def fit_and_record(built: tuple[Any, Any], steps: int = 2, **settings: Any) -> tuple[Any, UpdateRecorder]:
    recorder = UpdateRecorder()
    fit(*built, steps, recorder, **settings)
    return built[0], recorder


def networks(num_classes: int = 0, d_classes: int = 0) -> dict[str, Any]:
    torch.manual_seed(0)
    sizes = {"shape": (1, 4, 4), "width": 8, "depth": 1}
    adam = lambda parameters: torch.optim.Adam(parameters, 1e-2)  # noqa: E731
    return {
        "generator": MLPGenerator(latent_dim=3, num_classes=num_classes, **sizes),
        "discriminator": MLPDiscriminator(num_classes=d_classes, **sizes),
        "loss": NonSaturating(),
        "generator_optimizer": adam,
        "discriminator_optimizer": adam,
        "latent_dim": 3,
    }
