"""The recipe of ``experiment=photos``: settings that fit a user's images and machine, each with its reason.

:func:`recipe` is a pure function of plain facts and imports no torch. ``run/recipe.py`` collects the facts and applies
the result, ``conf/experiment/photos.yaml`` has what does not depend on them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from gan_lightning.config.image_size import to_height_width
from gan_lightning.errors import UserError

FEW_IMAGES = 20_000  # below, augmentation is recommended; lightweight-gan uses 100,000
MIN_IMAGES = 100  # the smallest sets of Zhao et al., 2020
MIN_PER_CLASS = 500  # images of the smallest class, from which on a conditional model is chosen
MANY_ON_CPU, MANY_ON_GPU = 2_000, 5_000  # images from which on the larger image size is chosen
ADAPTIVE_FROM = 5_000  # images from which on the probability of augmentation is adapted instead of 1

# DCGAN networks of width 32 at 64 x 64 on two CPU cores take 1 / (3.84 * 64) seconds for an image of a generator step
# and 296 MB for a batch of 64 (benchmarks/throughput.json); other sizes and widths are in proportion.
SECONDS_PER_IMAGE, BYTES_PER_IMAGE = 4.07e-3, 4_600_000
REFERENCE_PIXELS, REFERENCE_WIDTH, REFERENCE_THREADS = 64 * 64, 32, 2
NIGHT = 8 * 3600  # seconds, the largest budget on a CPU
MAX_THREADS = 8  # more threads do not make such small networks faster in proportion
D_STEPS = {"wgan": 5, "wgan_gp": 5}
PENALTY_COST = 1.4  # of wgan_gp, as a multiple of wgan
# Width that a network has by default, and its cost at that width as a multiple of DCGAN's at width 32.
NETWORKS = {"dcgan": (32, 1.0), "resnet": (128, 64.0), "mlp": (256, 0.25)}

MIN_STEPS, STEPS_PER_IMAGE, MAX_STEPS = 20_000, 4, 100_000
EMA_IMAGES = 10_000  # half-life of the EMA, as in StyleGAN2
EMA_SHARE = 0.05  # of the budget, the longest half-life, as in StyleGAN2-ADA
NUM_EVALUATIONS, PATIENCE = 40, 10
MIN_INTERVAL = 100  # generator steps between two evaluations
MIN_RATIO, MAX_RATIO = 1.25, 2.0  # of the sides, from and up to which images are rectangles

KEYS = (  # what the recipe may choose
    *("data.image_size", "data.channels", "data.flip", "model", "network.width", "data.batch_size", "augment"),
    *("trainer.max_steps", "model.ema_decay", "eval.every_n_steps", "callbacks.early_stopping.patience"),
)


@dataclass(frozen=True)
class Facts:
    """Facts about the images and the machine, from which the recipe chooses settings.

    Attributes:
        num_images: Number of images, at most ``data.limit``.
        height: Median height of the image files in pixels.
        width: Their median width.
        same_ratio: Whether most of them have about the same aspect ratio.
        gray: Whether all of them are gray.
        class_sizes: Number of images of each class; empty without classes.
        device: ``cpu`` or ``gpu``, on which the run trains.
        memory: Bytes of memory of that device; None if unknown.
        threads: Number of CPU threads that torch computes with.
        devices: Number of devices that share a minibatch.
    """

    num_images: int
    height: int
    width: int
    same_ratio: bool = False
    gray: bool = False
    class_sizes: tuple[int, ...] = ()
    device: str = "cpu"
    memory: int | None = None
    threads: int = REFERENCE_THREADS
    devices: int = 1


class Choice(NamedTuple):
    """A setting that the recipe chooses: an override, and why."""

    key: str
    value: str
    reason: str

    @property
    def override(self) -> str:
        """The choice as an override of the command line."""
        return f"{self.key}={self.value}"


def recipe(facts: Facts, fixed: Mapping[str, Any]) -> list[Choice]:
    """Return the settings that the recipe chooses, without those that the user has fixed.

    A choice depends on the facts and on the choices before it; a fixed setting takes the place of its choice, also for
    the choices that depend on it. The result is the same for the same arguments: nothing is measured.

    - **Image size:** a DCGAN learns 64 x 64 in hours on two cores and 32 x 32 in minutes, and a few hundred images are
      not worth the hours: 32 below 2,000 images on a CPU, else 64; 128 on a GPU from 5,000 images on. Images are not
      enlarged, except to 16 x 16. If most have one aspect ratio from 1.25 on, the size is a rectangle, at most 2 : 1.
    - **Model:** ``dcgan``, the cheapest convolutional variant; ``cgan`` if each class has 500 images, since a
      conditional model divides few images into fewer.
    - **Width and batch:** those of the benchmarks on a CPU, the double on a GPU (Radford et al., 2016, use 128 images);
      the batch is halved while its activations would take more than half of the memory.
    - **Augmentation** below 20,000 images: Zhao et al., 2020, gain most with the fewest, with probability 1; from 5,000
      on overfitting is less certain, so the probability is adapted to it (Karras et al., 2020).
    - **Budget:** 20,000 generator steps and 4 for each image, at most 100,000, as small sets reach their best early: at
      32 x 32 on two cores 20 minutes for 500 images, at 64 x 64 seven hours for 20,000. On a CPU it is limited to
      8 hours by the speed in ``benchmarks/throughput.json``, in proportion to threads, pixels, network and model.
    - **EMA:** a half-life of 10,000 images, at most 5 % of the budget.
    - **Evaluation:** 40 times in the budget; the run stops when 10 of them have not improved the score.

    Args:
        facts: The images and the machine.
        fixed: Settings that the user has typed, by their keys; groups by their names.

    Raises:
        UserError: There are too few images.
    """
    if facts.num_images < MIN_IMAGES:
        raise UserError(
            f"experiment=photos: needs at least {MIN_IMAGES} images, and there are {facts.num_images:,}; add images, "
            "or choose the settings yourself: data=image_folder in place of the experiment"
        )
    chosen: list[Choice] = []

    def choose(key: str, value: Any, reason: str) -> Any:
        if key in fixed:
            return fixed[key]
        text = str(value).lower() if isinstance(value, bool) else str(value).replace(" ", "")
        chosen.append(Choice(key, text, reason))
        return value

    num, on_cpu = facts.num_images, facts.device == "cpu"
    device = "a CPU" if on_cpu else "a GPU"
    size = choose("data.image_size", *image_size(facts))
    height, width = to_height_width(size)
    if facts.gray:
        choose("data.channels", 1, "the images are gray")
    elif num < FEW_IMAGES:
        choose("data.flip", True, "mirrored images double the data; type data.flip=false if left and right differ")
    model = choose("model", *variant(facts))
    network = fixed.get("network", "mlp" if model == "vanilla" else "dcgan")
    base = fixed.get("network.width", NETWORKS.get(network, NETWORKS["dcgan"])[0])
    if network == "dcgan":
        base = choose("network.width", 32 if on_cpu else 64, f"base width of the networks for {device}")
    batch = choose("data.batch_size", *batch_size(facts, height * width, base))
    if num < FEW_IMAGES and model != "vae":
        choose("augment", *augmentation(num))
    seconds = seconds_per_step(facts, height * width, model, network, base, batch, fixed.get("model.d_steps"))
    steps = choose("trainer.max_steps", *budget(facts, seconds))
    half_life = max(min(EMA_IMAGES, EMA_SHARE * steps * batch), batch)
    decay = round(0.5 ** (batch / half_life), 4)
    choose("model.ema_decay", decay, f"a half-life of {half_life:,.0f} images, with {batch} in a generator step")
    interval = max(steps // NUM_EVALUATIONS // MIN_INTERVAL * MIN_INTERVAL, MIN_INTERVAL)
    interval = choose("eval.every_n_steps", interval, f"about {NUM_EVALUATIONS} evaluations in {steps:,} steps")
    if interval is not None:
        reason = f"stops when {PATIENCE} evaluations have not improved the score, as few images reach their best early"
        choose("callbacks.early_stopping.patience", PATIENCE, reason)
    return chosen


def image_size(facts: Facts) -> tuple[int | list[int], str]:
    """Return the image size, a side or [height, width], and the reason; see :func:`recipe`."""
    ratio = max(facts.height, facts.width) / max(min(facts.height, facts.width), 1)
    is_rectangle = facts.same_ratio and ratio >= MIN_RATIO
    ratio = min(ratio, MAX_RATIO) if is_rectangle else 1.0
    extent = int(min(facts.height, facts.width) * ratio)  # of the longer side after cropping
    on_cpu = facts.device == "cpu"
    small, large, enough = (32, 64, MANY_ON_CPU) if on_cpu else (64, 128, MANY_ON_GPU)
    most = large if facts.num_images >= enough else small
    side = next((side for side in (128, 64, 32) if side <= min(most, extent)), 0)
    files = f"{facts.num_images:,} images of about {facts.width} x {facts.height}"
    where = f"on a {facts.device.upper()}"
    if not side:
        short = min(facts.height, facts.width)
        side = max(short // 4 * 4, 16)
        return side, f"{files}, which are {'not enlarged' if short >= side else 'enlarged to the least that works'}"
    reason = f"{files} {where}"
    if most == small and extent >= large:
        reason += f"; {large} from {enough:,} images on"
    step = side // 8
    short = max(round(side / ratio / step) * step, side // 2)
    if short == side:
        return side, reason
    reason += "; a rectangle, since most have this shape" + ("; the rest is cropped" if ratio == MAX_RATIO else "")
    return ([short, side] if facts.width > facts.height else [side, short]), reason


def variant(facts: Facts) -> tuple[str, str]:
    """Return the model and the reason; see :func:`recipe`."""
    count, least = len(facts.class_sizes), min(facts.class_sizes, default=0)
    if count < 2:
        return "dcgan", "there are no classes" if not count else "there is a single class"
    if least < MIN_PER_CLASS:
        return "dcgan", f"a conditional model needs {MIN_PER_CLASS} images of each class, and one has {least:,}"
    return "cgan", f"{count} classes, each of {least:,} images or more"


def batch_size(facts: Facts, pixels: int, width: int) -> tuple[int, str]:
    """Return the batch size, a multiple of the number of devices, and the reason; see :func:`recipe`."""
    batch = 64 if facts.device == "cpu" or facts.num_images < MANY_ON_GPU else 128
    reason = "the usual size" if batch == 64 else "a GPU, and enough images"
    each = BYTES_PER_IMAGE * pixels / REFERENCE_PIXELS * width / REFERENCE_WIDTH
    while facts.memory is not None and batch > 16 and batch // facts.devices * each > facts.memory / 2:
        batch, reason = batch // 2, f"what fits into {facts.memory / 1e9:,.1f} GB of memory"
    return -(-batch // facts.devices) * facts.devices, reason


def augmentation(num_images: int) -> tuple[str, str]:
    """Return the augmentation and the reason; see :func:`recipe`."""
    if num_images < ADAPTIVE_FROM:
        return "diffaugment", f"a discriminator memorizes {num_images:,} images without it"
    return "ada", f"below {FEW_IMAGES:,} images a discriminator may memorize them; the probability follows that"


def budget(facts: Facts, seconds: float) -> tuple[int, str]:
    """Return the number of generator steps and the reason; see :func:`recipe`.

    Args:
        facts: The images and the machine.
        seconds: Estimated duration of a generator step on a CPU.
    """
    steps = min(MIN_STEPS + STEPS_PER_IMAGE * facts.num_images, MAX_STEPS) // 1000 * 1000
    reason = f"{MIN_STEPS:,} and {STEPS_PER_IMAGE} for each image, at most {MAX_STEPS:,}"
    in_a_night = max(int(NIGHT / seconds) // 1000 * 1000, 1000)
    if facts.device == "cpu" and in_a_night < steps:
        threads = f"{facts.threads} CPU thread{'s' * (facts.threads != 1)}"
        return in_a_night, f"a night of {NIGHT // 3600} hours on {threads}, as estimated from benchmarks"
    return steps, reason


def seconds_per_step(
    facts: Facts, pixels: int, model: str, network: str, width: int, batch: int, d_steps: int | None
) -> float:
    """Return the estimated duration of a generator step on a CPU, from the benchmark of two cores.

    Args:
        facts: The images and the machine.
        pixels: Pixels of an image.
        model: The model.
        network: The networks.
        width: Their base width.
        batch: Number of images in a minibatch.
        d_steps: Discriminator updates per generator step; None for the model's default.
    """
    default, cost = NETWORKS.get(network, NETWORKS["dcgan"])
    updates = 0.35 + 0.65 * (d_steps or D_STEPS.get(model, 1))  # of dcgan with 1 and wgan with 5, as measured
    cost *= updates * (PENALTY_COST if model == "wgan_gp" else 1) * (width / default) ** 2
    speedup = min(facts.threads, MAX_THREADS) / REFERENCE_THREADS
    return SECONDS_PER_IMAGE * batch * pixels / REFERENCE_PIXELS * cost / speedup
