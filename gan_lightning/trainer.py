"""Lightning's Trainer with the levers of speed that it lacks."""

import threading
from typing import Annotated, Any, ClassVar, Literal, TypedDict, Unpack

import pytorch_lightning
import torch
from annotated_types import Ge, doc
from pytorch_lightning.strategies import SingleDeviceStrategy, StrategyRegistry

from gan_lightning.config.constraints import PositiveInt, Validated
from gan_lightning.errors import UserError
from gan_lightning.learner import Learner
from gan_lightning.signals import handlers_restored
from gan_lightning.strategy import TwoPlayers, lost_processes

StrategyRegistry.register("ddp_two_players", TwoPlayers)


class LightningOptions(TypedDict, total=False):
    """Arguments of ``pytorch_lightning.Trainer`` whose values are restricted here; it takes the others as well."""

    max_steps: PositiveInt
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"]
    devices: Annotated[int, Ge(-1)] | str | list[int]
    num_nodes: PositiveInt
    precision: Literal["32-true", "32", 32, "bf16-mixed", "16-mixed", "64-true", "64", 64, "bf16-true", "16-true"]
    deterministic: Annotated[bool | Literal["warn"], doc("true, false or warn")]
    benchmark: bool | None
    profiler: Literal["simple", "advanced", "pytorch"] | None


class Trainer(Validated, pytorch_lightning.Trainer):
    """Trains as Lightning's does.

    Args:
        compile: Compile both networks with ``torch.compile``; a gradient penalty runs them as they are written.
        cuda_graphs: Record each player's gradient as a CUDA graph and replay it; None does where that holds, which is
            with one GPU.
        channels_last: Keep feature maps with their channels innermost, as tensor cores and oneDNN want them; None does
            on a CPU in single precision, unless the networks are compiled.
        tf32: Round the factors of single-precision products to TF32's 10 bits, on a GPU that has it, penalties too.
        data_on_device: Hold the training set on the GPU where it takes no more than half of the memory that is free.
        **lightning: Arguments of ``pytorch_lightning.Trainer``.
    """

    # Arguments of Lightning's that would have no effect or break the order of the data, each with the project's own
    # setting or the reason.
    rejected_arguments: ClassVar = {
        "max_epochs": "trainer.max_steps is the budget, in generator steps",
        "min_epochs": "trainer.max_steps is the budget, in generator steps",
        "min_steps": "trainer.max_steps is the budget, in generator steps",
        "logger": "logger=OPTION, or ~logger for none",
        "callbacks": "+callbacks.NAME._target_=CLASS adds a callback",
        "plugins": "the run sets them",
        "default_root_dir": "hydra.run.dir=FOLDER",
        "enable_checkpointing": "~callbacks.checkpoint saves no checkpoints",
        "enable_progress_bar": "~callbacks.progress shows no progress bar",
        "enable_model_summary": "the numbers of parameters are logged when a run starts",
        "limit_train_batches": "data.limit=NUMBER or debug=overfit trains on fewer samples",
        "overfit_batches": "data.limit=NUMBER or debug=overfit trains on fewer samples",
        "fast_dev_run": "trainer.max_steps=2 is a short run",
        "accumulate_grad_batches": "data.batch_size=NUMBER; manual optimization accumulates no gradients",
        "gradient_clip_val": "model.generator_clip_norm and model.discriminator_clip_norm",
        "gradient_clip_algorithm": "model.generator_clip_norm and model.discriminator_clip_norm",
        "limit_val_batches": "eval.every_n_steps=NUMBER; there is no validation loop",
        "limit_test_batches": "eval.every_n_steps=NUMBER; there is no validation loop",
        "limit_predict_batches": "eval.every_n_steps=NUMBER; there is no validation loop",
        "num_sanity_val_steps": "eval.every_n_steps=NUMBER; there is no validation loop",
        "val_check_interval": "eval.every_n_steps=NUMBER; there is no validation loop",
        "check_val_every_n_epoch": "eval.every_n_steps=NUMBER; there is no validation loop",
        "use_distributed_sampler": "each rank takes its slice of every minibatch",
        "reload_dataloaders_every_n_epochs": "there are no epochs",
    }
    needs_single_precision: ClassVar = {"accelerator": ("mps",)}
    provides_single_precision: ClassVar = {
        "precision": ("32-true", "bf16-mixed", "16-mixed", "32", "bf16-true", "16-true")
    }
    provides_float32_weights: ClassVar = {"precision": ("bf16-mixed", "16-mixed", "32-true", "32", "64-true", "64")}
    provides_generator_clipping: ClassVar = {
        "precision": ("bf16-mixed", "32-true", "64-true", "32", "64", "bf16-true", "16-true")
    }
    provides_discriminator_clipping: ClassVar = {
        "precision": ("bf16-mixed", "32-true", "64-true", "32", "64", "bf16-true", "16-true")
    }

    def __init__(
        self,
        compile: bool = False,  # noqa: A002
        cuda_graphs: bool | None = None,
        channels_last: bool | None = None,
        tf32: bool = False,
        data_on_device: bool = True,
        **lightning: Unpack[LightningOptions],
    ) -> None:
        super().__init__(**lightning)
        self.compile, self.cuda_graphs, self.data_on_device = compile, cuda_graphs, data_on_device
        self.channels_last, self.tf32 = channels_last, tf32

    def fit(self, model: Learner, *args: Any, **kwargs: Any) -> None:
        """Set the levers, then fit.

        Raises:
            UserError: Steps are to be recorded where they cannot be, torch cannot compile channels_last, or another
                process of the run has ended.
        """
        torch.backends.cudnn.allow_tf32 = self.tf32
        torch.set_float32_matmul_precision("high" if self.tf32 else "highest")
        device = self.strategy.root_device.type
        one_gpu = isinstance(self.strategy, SingleDeviceStrategy) and device == "cuda"
        if self.cuda_graphs and not one_gpu:
            raise UserError("trainer.cuda_graphs=true: needs one NVIDIA GPU; null records steps where there is one")
        model.uses_cuda_graphs = one_gpu and self.cuda_graphs is not False
        faster = device == "cpu" and torch.backends.mkldnn.is_available() and self.precision == "32-true"
        if (faster and not self.compile) if self.channels_last is None else self.channels_last:
            model.to(memory_format=torch.channels_last)
        if self.compile:
            # torch 2.11 errs on the strides of what cuDNN returns for small maps, so formats change on demand only.
            torch._inductor.config.layout_optimization = bool(self.channels_last)
            model.compile_networks()
        try:
            with handlers_restored():
                super().fit(model, *args, **kwargs)
        except AssertionError as error:
            if not (self.compile and self.channels_last and "stride" in str(error)):
                raise
            raise UserError(
                f"trainer.channels_last=true: torch {torch.__version__} errs on the format of small feature maps that "
                "it compiled; false, or trainer.compile=false"
            ) from error
        except RuntimeError as error:
            if message := lost_processes(self, error):
                raise UserError(message) from error
            raise
        finally:
            stop_observer()


def stop_observer() -> None:
    """Stop the thread with which Lightning kills all processes of a run within 5 s after one of them has ended.

    After training it would kill this process while it writes the results. Lightning offers no call for this; the thread
    ends when it has no processes to observe.
    """
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            thread._child_processes = []
