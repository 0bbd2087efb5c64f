"""Micro batches: the gradients of a minibatch that does not fit into memory, accumulated over parts of its rows.

The accumulated gradients are those of the whole minibatch, since losses and penalties are means over rows, and random
numbers are drawn for the whole minibatch. A part whose loss or penalty is no mean over rows, such as a statistic of the
batch, declares ``needs_whole_minibatch = True``, and is rejected.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.nn.utils.parametrizations import _SpectralNorm

from gan_lightning.errors import UserError
from gan_lightning.io.memory import is_out_of_memory
from gan_lightning.model.ema import has_batchnorm

Gradients = TypeVar("Gradients", bound=Callable[..., Any])


@dataclass
class MicroBatch:
    """The rows of a minibatch whose gradients are being computed, and the random numbers of the whole minibatch.

    Attributes:
        start: Its first row in the minibatch.
        stop: The row after its last one.
        num_rows: Number of rows of the minibatch.
        draws: Random numbers of the whole minibatch, in the order in which they are drawn; shared by its micro batches.
        num_drawn: How many of ``draws`` this micro batch has used.
    """

    start: int
    stop: int
    num_rows: int
    draws: list[Tensor]
    num_drawn: int = 0

    @property
    def weight(self) -> float:
        """Return the share of the minibatch's rows, which is the weight of this micro batch's loss."""
        return (self.stop - self.start) / self.num_rows

    def draw(self, draw_rows: Callable[[int], Tensor], num: int) -> Tensor:
        """Return this micro batch's rows of a draw for the whole minibatch, which its first micro batch makes.

        Args:
            draw_rows: Draws the given number of rows.
            num: Number of rows of this micro batch.

        Raises:
            UserError: ``num`` is another number.
        """
        if num != self.stop - self.start:
            raise UserError(
                f"trainer.micro_batch: {num} rows of random numbers are drawn for a micro batch of "
                f"{self.stop - self.start}; draw one for each sample, or use trainer.micro_batch=null"
            )
        if self.num_drawn == len(self.draws):
            self.draws.append(draw_rows(self.num_rows))
        self.num_drawn += 1
        return self.draws[self.num_drawn - 1][self.start : self.stop]


def in_micro_batches(multiplier: str = "") -> Callable[[Gradients], Gradients]:
    """Decorate a method that computes gradients, so that it does so for at most ``model.micro_batch`` samples at once.

    Args:
        multiplier: Name of the model's attribute that holds the number of samples for each row of the minibatch; ""
            if that is one.

    Returns:
        A decorator of methods that take tensors with a row for each element of the minibatch, compute gradients with
        :meth:`~gan_lightning.model.base.GenerativeModel.backward_terms`, and return detached results.
    """

    def decorate(gradients: Gradients) -> Gradients:
        @wraps(gradients)
        def accumulate(model: Any, *inputs: Tensor) -> Any:
            samples_per_row = getattr(model, multiplier) if multiplier else 1
            try:
                # Checked first, since len() of a tensor takes 1 us.
                if model.micro_batch is None or (size := rows_at_once(model, samples_per_row)) >= len(inputs[0]):
                    return gradients(model, *inputs)
                return accumulated(model, gradients, inputs, size)
            except (RuntimeError, MemoryError) as error:
                if is_out_of_memory(error) and (advice := smaller_micro_batch(model, len(inputs[0]), samples_per_row)):
                    error.add_note(advice)
                raise

        return cast(Gradients, accumulate)

    return decorate


def rows_at_once(model: Any, samples_per_row: int) -> int:
    """Return how many rows of a minibatch fit into a micro batch, at least one."""
    return max(model.micro_batch // samples_per_row, 1)


def accumulated(model: Any, gradients: Callable[..., Any], inputs: Sequence[Tensor], size: int) -> Any:
    """Compute gradients for micro batches of ``size`` rows, the last of which may be smaller; merge their results.

    Raises:
        UserError: A part of the model needs the whole minibatch; checked in the first step of a fit.
    """
    if not model.history and (parts := [*parts_with_whole_minibatch(model)]):
        raise UserError(
            f"trainer.micro_batch={model.micro_batch}: {', '.join(parts)} needs the whole minibatch at once; "
            "trainer.micro_batch=null"
        )
    # Every forward pass iterates the singular vectors of spectral normalization. Each micro batch begins with the same,
    # so that its passes have the weights that those of the whole minibatch have.
    norms = [module for module in model.modules() if isinstance(module, _SpectralNorm)]
    vectors = [vector for norm in norms for vector in norm.buffers()]
    initial = [vector.clone() for vector in vectors]
    draws: list[Tensor] = []
    num_rows, outputs, sizes = len(inputs[0]), [], []
    try:
        for start in range(0, num_rows, size):
            stop = min(start + size, num_rows)
            for vector, value in zip(vectors, initial, strict=True):
                vector.copy_(value)
            model.current_micro_batch = MicroBatch(start, stop, num_rows, draws)
            outputs.append(gradients(model, *(tensor[start:stop] for tensor in inputs)))
            sizes.append(stop - start)
    finally:
        model.current_micro_batch = None
    return merged(outputs, sizes)


def merged(results: Sequence[Any], sizes: Sequence[int]) -> Any:
    """Merge the results of micro batches, nested containers of tensors, into those of the whole minibatch.

    Args:
        results: For each micro batch of n rows scalars, which are means over rows, and tensors (k * n, ...).
        sizes: Number of rows n of each.

    Returns:
        The same containers with the weighted means of scalars, and with tensors (k * N, ...) whose rows are in the
        order of the whole minibatch of N rows.
    """
    first = results[0]
    if isinstance(first, Tensor) and first.ndim:
        parts = [result.unflatten(0, (-1, size)) for result, size in zip(results, sizes, strict=True)]
        return torch.cat(parts, dim=1).flatten(0, 1)
    if isinstance(first, Tensor):
        return sum(result * (size / sum(sizes)) for result, size in zip(results, sizes, strict=True))
    if isinstance(first, dict):
        return {key: merged([result[key] for result in results], sizes) for key in first}
    if isinstance(first, tuple):
        items = [merged(values, sizes) for values in zip(*results, strict=True)]
        return type(first)(*items) if hasattr(first, "_fields") else tuple(items)
    if is_dataclass(first) and not isinstance(first, type):
        names = [field.name for field in fields(first)]
        return replace(first, **{name: merged([getattr(r, name) for r in results], sizes) for name in names})
    return first  # None


def parts_with_whole_minibatch(model: Any) -> Iterator[str]:
    """Yield a name for each part of a model that declares ``needs_whole_minibatch``, see config/combinations.py."""
    penalties = getattr(model, "penalties", {}).values()
    for part in (*model.modules(), getattr(model, "loss", None), getattr(model, "augment", None), *penalties):
        needed = getattr(part, "needs_whole_minibatch", False)
        if isinstance(needed, dict):
            yield from (f"{name}={getattr(part, name)}" for name in needed if getattr(part, name) in needed[name])
        elif needed:
            yield type(part).__name__


def smaller_micro_batch(model: Any, num_rows: int, samples_per_row: int) -> str:
    """Return the advice for an update that ran out of memory: a micro batch of half the present size.

    Args:
        model: The model.
        num_rows: Number of rows of the minibatch on this device.
        samples_per_row: Number of samples for each row.

    Returns:
        The settings and what they change; "" if there is no smaller micro batch.
    """
    size = num_rows if model.micro_batch is None else min(rows_at_once(model, samples_per_row), num_rows)
    batchnorm = any(map(has_batchnorm, model.networks().values()))
    least = max(samples_per_row, 2 if batchnorm else 1)
    smaller = range((size * samples_per_row + 1) // 2, least - 1, -1) if size > 1 else ()
    # BatchNorm has no statistics of a single row, which the last micro batch may have.
    found = next((new for new in smaller if new >= num_rows or num_rows % new != 1 or not batchnorm), None)
    if found is None or {*parts_with_whole_minibatch(model)} - {"reuse_fake=True"}:
        return ""
    settings = " model.reuse_fake=false" if getattr(model, "reuse_fake", False) else ""
    change = "BatchNorm then uses the statistics of each part" if batchnorm else "its gradients are the same"
    return f"trainer.micro_batch={found}{settings} computes each minibatch in parts ({change})"
