"""Train a student network by one of four recipes, and write it as safetensors with a JSON file.

    python benchmarks/compact_features/train.py distilled                # input 64 x 64
    python benchmarks/compact_features/train.py distilled --side 48
    python benchmarks/compact_features/train.py --rate                   # images per second of untrained networks

Recipes:
    supervised   classes of the training images; the features before the classifier
    distilled    regression of the largest principal components of Inception's features, partially whitened
    augmented    the same, with flips, shifts and small changes of contrast that keep the teacher's features
    degradation  augmented, and a second output that names the degradations of the image

The training images must have features of the teacher (teacher.py distillation), of which every twentieth block is held
out. Results are equal for equal arguments and numbers of threads. A checkpoint is written twice a minute, and the same
command resumes. Twenty epochs of 40,000 images take 40 minutes at 64 x 64 on two cores.
"""

import argparse
import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from degradations import TRAINING_KINDS
from distillation import NUM_CLASSES, PLACES, load_distillation_images
from image_sets import OUT, write_array
from student import Student, fused, images_per_second, load_student, project, projection, save_student
from teacher import SHARD, images_hash, shard_path
from torch import Tensor, nn

from gan_lightning.io.files import atomic_write
from gan_lightning.io.image import from_uint8

BATCH, LEARNING_RATE, WEIGHT_DECAY, WARM_UP = 128, 2e-3, 0.02, 0.05
DIM, WHITENING = 192, 0.5
CHECKPOINT_S = 30
HELD_OUT = 20  # every so many blocks of len(PLACES) images


@dataclass(frozen=True)
class Recipe:
    """Weights of the terms of a student's loss, and whether its images are augmented.

    Attributes:
        classes: Weight of the cross-entropy of the images' classes.
        distillation: Weight of the regression of the teacher's projected features.
        degradation: Weight of the binary cross-entropy of the degradations.
        augment: Whether images are flipped, shifted and changed in contrast.
    """

    classes: float = 0.0
    distillation: float = 0.0
    degradation: float = 0.0
    augment: bool = False


RECIPES = {
    "supervised": Recipe(classes=1.0, augment=True),
    "distilled": Recipe(distillation=1.0),
    "augmented": Recipe(distillation=1.0, augment=True),
    "degradation": Recipe(distillation=1.0, degradation=0.1, augment=True),
}


@dataclass
class TrainingSet:
    """Images and what is learned of them.

    Attributes:
        images: uint8 images (N, 3, side, side).
        targets: Projected features of the teacher (N, dim).
        classes: Classes (N,); -1 for an image without class.
        degradations: 1 for each degradation that an image has (N, len(TRAINING_KINDS)).
        factors: Factors (dim,) that turn the projection into principal components.
        explained: Share of the teacher's variance in these components.
    """

    images: Tensor
    targets: Tensor
    classes: Tensor
    degradations: Tensor
    factors: Tensor
    explained: float

    def rows(self, held_out: bool) -> Tensor:
        """Return the indices of the images for training, or of those that are held out."""
        blocks = torch.arange(len(self.images)) // len(PLACES)
        return (((blocks % HELD_OUT) == HELD_OUT - 1) == held_out).nonzero().flatten()


def load_training_set(out: Path, num: int, side: int) -> TrainingSet:
    """Create the training images, resized to the input size, and read the teacher's features.

    The images are cached in ``out/distillation/inputs-SIDE-NUM.npy``.

    Raises:
        SystemExit: Shards are missing, or the teacher has seen other images.
    """
    shards = -(-num // SHARD)
    if missing := [number for number in range(shards) if not shard_path(out, number).exists()]:
        raise SystemExit(f"{shard_path(out, missing[0])}: missing; run teacher.py distillation --images {num} first")
    described = [json.loads(shard_path(out, number).with_suffix(".json").read_text()) for number in range(shards)]
    of = hashlib.sha256("".join(entry["images"] for entry in described).encode()).hexdigest()
    path = out / "distillation" / f"inputs-{side}-{num}.npy"
    if not path.exists() or json.loads(path.with_suffix(".json").read_text())["images"] != of:
        write_inputs(path, out, side, [entry["images"] for entry in described], of)
    stored = json.loads(path.with_suffix(".json").read_text())
    features = torch.from_numpy(np.concatenate([np.load(shard_path(out, number)) for number in range(shards)])).float()
    mean, matrix, factors = projection(features, DIM, WHITENING)
    total = (features.double() - mean).square().sum()
    targets = project(features, mean, matrix)
    return TrainingSet(
        torch.from_numpy(np.load(path)),
        targets,
        torch.tensor(stored["classes"]),
        torch.tensor(stored["degradations"]).float(),
        factors.float(),
        float((targets.double() * factors).square().sum() / total),
    )


def write_inputs(path: Path, out: Path, side: int, hashes: list[str], of: str) -> None:
    """Write the training images of all shards, resized, with their classes and degradations.

    Raises:
        SystemExit: An image differs from the one that the teacher has seen.
    """
    source, since = load_distillation_images(out), time.time()
    inputs = np.empty((len(hashes) * SHARD, 3, side, side), np.uint8)
    classes, degradations = [], []
    for number, expected in enumerate(hashes):
        rows = range(number * SHARD, (number + 1) * SHARD)
        images, strengths, labels = zip(*(source[index] for index in rows), strict=True)
        if images_hash([*images]) != expected:
            raise SystemExit(f"{shard_path(out, number)}: is of other images; remove it and run teacher.py again")
        for row, image in zip(rows, images, strict=True):
            inputs[row] = to_side(torch.from_numpy(np.array(image))[None], side)[0]
        classes += labels
        degradations += [(strength > 0).astype(int).tolist() for strength in strengths]
        if number % 10 == 9:
            print(f"{len(classes):,} of {len(inputs):,} images created, {time.time() - since:.0f} s", flush=True)
    write_array(path, inputs, {"images": of, "classes": classes, "degradations": degradations})


def to_side(images: Tensor, side: int) -> Tensor:
    """Resize uint8 images as the student's input is, rounded to uint8."""
    if images.shape[-2:] == (side, side):
        return images
    resized = F.interpolate(images.float(), (side, side), mode="bilinear", antialias=True)
    return resized.round_().clamp_(0, 255).byte()


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip images (N, 3, S, S) at random, shift them by up to a sixteenth, and change the contrast by up to 5 %."""
    num, side = len(images), images.shape[-1]
    images = torch.where(torch.rand(num, 1, 1, 1, generator=generator) < 0.5, images.flip(-1), images)
    reach = side // 16
    padded = F.pad(images, (reach,) * 4, mode="reflect")
    shifts = torch.randint(2 * reach + 1, (num, 2), generator=generator)
    rows, columns = (shifts[:, axis, None] + torch.arange(side) for axis in range(2))
    shifted = padded[torch.arange(num)[:, None, None], :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)
    contrast = 1 + 0.05 * (2 * torch.rand(num, 1, 1, 1, generator=generator) - 1)
    return (shifted * contrast).clamp(-1, 1).contiguous(memory_format=torch.channels_last)


class Training:
    """Training of one student, which can be resumed.

    Args:
        recipe: What it learns.
        data: The training set.
        side: Side of its input.
        epochs: Passes over the training images.
        seed: Seed of the weights, the order of images and their augmentation.
    """

    def __init__(self, recipe: Recipe, data: TrainingSet, side: int, epochs: int, seed: int) -> None:
        self.recipe, self.data, self.seed = recipe, data, seed
        torch.manual_seed(seed)
        self.student = Student(side, data.targets.shape[1])
        pooled = self.student.head.in_features
        self.heads = nn.ModuleDict(
            {
                "classes": nn.Sequential(nn.ReLU(), nn.Linear(self.student.head.out_features, NUM_CLASSES)),
                "degradation": nn.Linear(pooled, len(TRAINING_KINDS)),
            }
        )
        self.train_rows = data.rows(held_out=False)
        self.per_epoch = len(self.train_rows) // BATCH or 1
        self.total, self.step, self.seconds = epochs * self.per_epoch, 0, 0.0
        parameters = [*self.student.parameters(), *self.heads.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def rows(self, step: int) -> Tensor:
        """Return the images of a step: a function of the seed and the step."""
        epoch, number = divmod(step, self.per_epoch)
        generator = torch.Generator().manual_seed(self.seed * 100_003 + epoch)
        order = self.train_rows[torch.randperm(len(self.train_rows), generator=generator)]
        return order[number * BATCH : (number + 1) * BATCH]

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step: linear warm-up, cosine decay to 0."""
        progress = step / self.total
        if progress < WARM_UP:
            return LEARNING_RATE * (progress / WARM_UP + 1 / self.total)
        return LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))

    def train_step(self) -> float:
        """Update the weights; return the loss."""
        rows, data, recipe = self.rows(self.step), self.data, self.recipe
        images = from_uint8(data.images[rows]).contiguous(memory_format=torch.channels_last)
        if recipe.augment:
            images = augmented(images, torch.Generator().manual_seed(self.seed * 1_000_003 + self.step))
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step)
        pooled = self.student.train().pooled(images)
        features, loss = self.student.head(pooled), torch.zeros(())
        if recipe.distillation:
            loss = loss + recipe.distillation * F.mse_loss(features, data.targets[rows])
        if recipe.classes and (data.classes[rows] >= 0).any():
            logits = self.heads["classes"](features)
            loss = loss + recipe.classes * F.cross_entropy(logits, data.classes[rows], ignore_index=-1)
        if recipe.degradation:
            logits = self.heads["degradation"](pooled)
            loss = loss + recipe.degradation * F.binary_cross_entropy_with_logits(logits, data.degradations[rows])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.step += 1
        return float(loss.detach())

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return scores on the held-out images: explained share of the targets' variance, accuracy of the classes."""
        rows, network = self.data.rows(held_out=True), self.student.eval()
        if not len(rows):  # fewer than HELD_OUT blocks
            return {}
        features = torch.cat([network(from_uint8(self.data.images[part])) for part in rows.split(250)])
        if self.recipe.distillation:
            targets = self.data.targets[rows]
            error = (features - targets).square().sum() / (targets - targets.mean(0)).square().sum()
            return {"explained": round(1 - float(error), 4)}
        classes = self.data.classes[rows]
        correct = self.heads["classes"].eval()(features).argmax(1)[classes >= 0] == classes[classes >= 0]
        return {"accuracy": round(float(correct.float().mean()), 4)}

    def state(self) -> dict[str, Any]:
        """Return what a resumed training needs."""
        parts = {"student": self.student, "heads": self.heads, "optimizer": self.optimizer}
        state = {name: part.state_dict() for name, part in parts.items()}
        return state | {"step": self.step, "seconds": self.seconds, "total": self.total}

    def load(self, state: dict[str, Any]) -> None:
        """Resume from a state.

        Raises:
            SystemExit: It is of another number of steps.
        """
        if state["total"] != self.total:
            raise SystemExit(f"the checkpoint is of {state['total']:,} steps, not {self.total:,}; remove it")
        for name in ("student", "heads", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.seconds = state["step"], state["seconds"]

    def result(self) -> Student:
        """Return the fused network; distilled features are principal components with a mean square of 1."""
        network = fused(self.student)
        if self.recipe.distillation:
            factors, targets = self.data.factors, self.data.targets[self.train_rows]
            factors = factors / (targets * factors).square().mean().sqrt()
        else:
            features = torch.cat([network(from_uint8(part)) for part in self.data.images[:1000].split(250)])
            factors = features.square().mean().rsqrt().expand(features.shape[1])
        network.head.weight.mul_(factors[:, None])
        network.head.bias.mul_(factors)
        return network


def train(training: Training, checkpoint: Path, label: str) -> dict[str, float]:
    """Train to the end, with a checkpoint twice a minute; return the scores on held-out images."""
    if checkpoint.exists():
        training.load(torch.load(checkpoint, weights_only=True))
        print(f"{label}: resumed at step {training.step:,} of {training.total:,}", flush=True)
    saved = printed = time.monotonic()
    losses: list[float] = []
    while training.step < training.total:
        since = time.monotonic()
        losses.append(training.train_step())
        now = time.monotonic()
        training.seconds += now - since
        if now - saved > CHECKPOINT_S or training.step == training.total:
            saved = now
            with atomic_write(checkpoint) as file:
                torch.save(training.state(), file)
        if training.step % training.per_epoch == 0 or now - printed > CHECKPOINT_S:
            scores = training.validate() if training.step % training.per_epoch == 0 else ""
            rate = BATCH * len(losses) / (time.monotonic() - printed)
            left = (training.total - training.step) * training.seconds / training.step / 60
            mean = sum(losses) / len(losses)
            print(f"{label}: step {training.step:,} of {training.total:,}, loss {mean:.4f}, {rate:.0f} images/s, "
                  f"{left:.0f} min left {scores}", flush=True)  # fmt: skip
            printed, losses = time.monotonic(), []
    return training.validate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recipe", nargs="?", choices=RECIPES)
    parser.add_argument("--rate", action="store_true", help="measure untrained networks at 32, 48 and 64 pixels")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the results (%(default)s)")
    parser.add_argument("--images", type=int, default=40_000, help="training images (%(default)s)")
    parser.add_argument("--side", type=int, default=64, help="side of the network's input (%(default)s)")
    parser.add_argument("--epochs", type=int, default=20, help="passes over the images (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation (%(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch's (%(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.rate:
        for side in (32, 48, 64):
            network = fused(Student(side, DIM))
            count = sum(parameter.numel() for parameter in network.parameters())
            rate = images_per_second(network)
            print(f"input {side} x {side}: {count:,} parameters, {rate:,.0f} images of 32 x 32 a second", flush=True)
        return
    if args.recipe is None:
        parser.error("which recipe?")
    label = f"{args.recipe}-{args.side}" + (f"-{args.seed}" if args.seed else "")
    target = args.out / "students" / f"{label}.safetensors"
    if target.exists() and target.with_suffix(".json").exists():
        print(f"{target}: exists")
        return
    data = load_training_set(args.out, args.images, args.side)
    training = Training(RECIPES[args.recipe], data, args.side, args.epochs, args.seed)
    checkpoint = target.with_suffix(".ckpt")
    scores = train(training, checkpoint, label)
    report = {"recipe": args.recipe} | asdict(RECIPES[args.recipe])
    report |= {"side": args.side, "dim": DIM, "whitening": WHITENING, "images": args.images, "epochs": args.epochs}
    report |= {"seed": args.seed, "threads": args.threads, "torch": torch.__version__}
    report |= {"held_out": scores, "teacher_variance_in_components": round(data.explained, 4)}
    save_student(target, training.result(), recipe=args.recipe, seed=args.seed)
    network = load_student(target)
    report |= {"parameters": sum(parameter.numel() for parameter in network.parameters())}
    report |= {"bytes": target.stat().st_size, "sha256": hashlib.sha256(target.read_bytes()).hexdigest()}
    report |= {"seconds": round(training.seconds), "images_per_second": round(images_per_second(network))}
    with atomic_write(target.with_suffix(".json"), "w") as file:
        json.dump(report, file, indent=1)
    checkpoint.unlink(missing_ok=True)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
