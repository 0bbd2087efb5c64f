"""Lightning's Trainer, extended by compilation, CUDA graphs, memory format, TF32 and micro batches."""

import logging
import threading
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypedDict, Unpack

import pytorch_lightning
import torch
from annotated_types import Ge, doc
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import CheckpointIO
from pytorch_lightning.strategies import SingleDeviceStrategy, StrategyRegistry
from pytorch_lightning.utilities import rank_zero_only

from gan_lightning.config.constraints import PositiveInt, Validated
from gan_lightning.errors import UserError
from gan_lightning.io.library_warnings import ignore_library_warnings
from gan_lightning.io.signals import handlers_restored
from gan_lightning.model.base import GenerativeModel
from gan_lightning.trainer.checkpoint_io import AtomicCheckpointIO
from gan_lightning.trainer.ddp import GANDDPStrategy, lost_process_message

StrategyRegistry.register("ddp_gan", GANDDPStrategy)


class LightningOptions(TypedDict, total=False):
    """Arguments of ``pytorch_lightning.Trainer`` whose values are validated here; the others are accepted as well."""

    max_steps: PositiveInt
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"]
    devices: Annotated[int, Ge(-1)] | str | list[int]
    num_nodes: PositiveInt
    precision: Literal["32-true", "32", 32, "bf16-mixed", "16-mixed", "64-true", "64", 64, "bf16-true", "16-true"]
    deterministic: Annotated[bool | Literal["warn"], doc("true, false or warn")]
    benchmark: bool | None
    profiler: Literal["simple", "advanced", "pytorch"] | None


class Trainer(Validated, pytorch_lightning.Trainer):
    """Lightning's Trainer with further performance settings.

    >>> trainer = Trainer(max_steps=500, default_root_dir="runs/first", callbacks=[Checkpoint(every_n_steps=100)])
    >>> trainer.fit(model, data)  # with ckpt_path="runs/first/checkpoints/last.ckpt" it resumes

    Checkpoints are saved by the callbacks and written atomically. Unlike Lightning's, this Trainer has no logger by
    default, and logs no messages of its own.

    Args:
        compile: Compile the networks with ``torch.compile``; gradient penalties use the uncompiled networks.
        cuda_graphs: Capture each network's gradient computation as a CUDA graph and replay it; None does so where
            that is supported, which is on one GPU.
        channels_last: Use the channels-last memory format, which is faster with tensor cores and oneDNN; None does so
            on a CPU in float32, unless the networks are compiled.
        tf32: Use TF32, which rounds the factors of float32 products to 10 bits of mantissa, on GPUs that support it,
            also in penalties.
        data_on_device: Keep the training set on the GPU if it takes at most half of the free memory.
        micro_batch: Number of samples on each device whose gradients are computed at once; the gradients of a larger
            minibatch are accumulated over such parts. None computes those of a minibatch at once.
        **lightning: Arguments of ``pytorch_lightning.Trainer``: ``max_steps`` is the budget in generator steps,
            ``default_root_dir`` the run directory, in which callbacks write; further ones are ``callbacks``,
            ``logger``, ``accelerator``, ``devices`` and ``precision``.
    """

    # Arguments of Lightning's Trainer that would have no effect or would break the order of the data, each with the
    # setting to use instead or the reason.
    rejected_arguments: ClassVar = {
        "max_epochs": "trainer.max_steps is the budget, in generator steps",
        "min_epochs": "trainer.max_steps is the budget, in generator steps",
        "min_steps": "trainer.max_steps is the budget, in generator steps",
        "logger": "logger=OPTION, or ~logger for none",
        "callbacks": "+callbacks.NAME._target_=CLASS adds a callback",
        "plugins": "set by the run",
        "default_root_dir": "hydra.run.dir=FOLDER",
        "enable_checkpointing": "~callbacks.checkpoint saves no checkpoints",
        "enable_progress_bar": "~callbacks.progress shows no progress bar",
        "enable_model_summary": "the numbers of parameters are logged when a run starts",
        "limit_train_batches": "data.limit=NUMBER or debug=overfit trains on fewer samples",
        "overfit_batches": "data.limit=NUMBER or debug=overfit trains on fewer samples",
        "fast_dev_run": "trainer.max_steps=2 is a short run",
        "accumulate_grad_batches": "trainer.micro_batch=NUMBER accumulates gradients over parts of each minibatch",
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
    # The values of some of them that a run has, which are passed to Lightning. With the interval, Lightning's
    # EarlyStopping and ModelCheckpoint act after each evaluation, not at the end of training.
    fixed_arguments: ClassVar = {
        "max_epochs": -1,
        "num_sanity_val_steps": 0,
        "val_check_interval": 1,
        "check_val_every_n_epoch": None,
        "use_distributed_sampler": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    # Those that are objects of the run or follow from them, which Python code passes.
    run_arguments: ClassVar = ("logger", "callbacks", "plugins", "default_root_dir", "enable_checkpointing")
    provides_whole_minibatch: ClassVar = {"micro_batch": (None,)}
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

    # Lightning sets these without declaring them.
    callbacks: list[Callback]
    datamodule: Any

    def __init__(
        self,
        compile: bool = False,  # noqa: A002
        cuda_graphs: bool | None = None,
        channels_last: bool | None = None,
        tf32: bool = False,
        data_on_device: bool = True,
        micro_batch: PositiveInt | None = None,
        **lightning: Unpack[LightningOptions],
    ) -> None:
        fixed, advice = self.fixed_arguments, self.rejected_arguments
        allowed = (*self.run_arguments, *(name for name in fixed if lightning.get(name, ...) == fixed[name]))
        if rejected := [name for name in lightning if name in advice and name not in allowed]:
            raise ValueError("; ".join(f"{name}: is not supported; {advice[name]}" for name in rejected))
        for name in ("pytorch_lightning", "lightning_fabric"):
            logging.getLogger(name).setLevel(logging.ERROR)  # our callbacks log the relevant part
        logging.getLogger("pytorch_lightning.profilers").setLevel(logging.INFO)
        options: Any = {"logger": False} | fixed | lightning
        callbacks, plugins = (as_list(options.get(name)) for name in ("callbacks", "plugins"))
        options.setdefault("enable_checkpointing", any(isinstance(callback, Checkpoint) for callback in callbacks))
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            options["plugins"] = [*plugins, AtomicCheckpointIO()]
        lightning = options
        super().__init__(**lightning)
        # Otherwise it stays that of any SLURM_PROCID, also where Lightning does not use Slurm.
        rank_zero_only.rank = self.global_rank  # type: ignore[attr-defined]
        self.compile, self.cuda_graphs, self.data_on_device = compile, cuda_graphs, data_on_device
        self.channels_last, self.tf32, self.micro_batch = channels_last, tf32, micro_batch

    def fit(  # type: ignore[override]
        self, model: GenerativeModel, data: Any = None, ckpt_path: str | Path | None = None, **kwargs: Any
    ) -> None:
        """Apply the performance settings, then fit.

        Args:
            model: The model.
            data: The data module, or a data loader.
            ckpt_path: A checkpoint to resume from; ``"last"`` is ``checkpoints/last.ckpt`` of the run directory
                (``default_root_dir``) if there is one, so that the same call starts a run and resumes it.
            **kwargs: Further arguments of Lightning's ``fit``.

        Raises:
            UserError: There is no such checkpoint, CUDA graphs are not supported here, torch cannot compile the
                channels-last format, or another process of the run has ended.
        """
        if self.is_global_zero:
            Path(self.default_root_dir).mkdir(parents=True, exist_ok=True)
        if ckpt_path == "last":
            last = Path(self.default_root_dir, "checkpoints", "last.ckpt")
            ckpt_path = last if last.exists() else None
        if ckpt_path is not None and not Path(ckpt_path).is_file():
            raise UserError(f"ckpt_path={ckpt_path}: there is no such checkpoint")
        kwargs = {"weights_only": True} | kwargs  # no code in the file is run
        torch.backends.cudnn.allow_tf32 = self.tf32
        torch.set_float32_matmul_precision("high" if self.tf32 else "highest")
        device = self.strategy.root_device.type
        one_gpu = isinstance(self.strategy, SingleDeviceStrategy) and device == "cuda"
        if self.cuda_graphs and not one_gpu:
            raise UserError("trainer.cuda_graphs=true: needs one NVIDIA GPU; null uses CUDA graphs if there is one")
        model.uses_cuda_graphs = one_gpu and self.cuda_graphs is not False
        model.micro_batch = self.micro_batch
        faster = device == "cpu" and torch.backends.mkldnn.is_available() and self.precision == "32-true"
        if (faster and not self.compile) if self.channels_last is None else self.channels_last:
            model.to(memory_format=torch.channels_last)
        if self.compile:
            # torch 2.11 assumes wrong strides of cuDNN's outputs for small feature maps, so inductor may change memory
            # formats only if channels_last is set.
            torch._inductor.config.layout_optimization = bool(self.channels_last)
            model.compile_networks()
        try:
            with handlers_restored(), ignore_library_warnings():
                super().fit(model, data, ckpt_path=ckpt_path, **kwargs)
        except AssertionError as error:
            if not (self.compile and self.channels_last and "stride" in str(error)):
                raise
            raise UserError(
                f"trainer.channels_last=true: torch {torch.__version__} compiles small feature maps with wrong "
                "strides; set trainer.channels_last=false or trainer.compile=false"
            ) from error
        except RuntimeError as error:
            if message := lost_process_message(self, error):
                raise UserError(message) from error
            raise
        finally:
            stop_observer()


def as_list(value: Any) -> list[Any]:
    """Return a list of a single value, of several or of none, as Lightning accepts callbacks and plugins."""
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def stop_observer() -> None:
    """Stop Lightning's observer thread, which kills all processes of a run within 5 s after one of them has ended.

    After training it would kill this process while it writes the results. Lightning has no method for this; the thread
    ends when its list of processes is empty.
    """
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            thread._child_processes = []  # type: ignore[attr-defined]
