"""CUDA graphs: what a function makes the GPU do, captured once and then replayed by a single call from Python."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from gan_lightning.errors import UserError
from gan_lightning.memory import is_lack_of_memory

WARMUP_STEPS = 3  # run eagerly before capture: autotuning, lazy initialisation, compilation

Output = TypeVar("Output")
Terms = TypeVar("Terms", bound=dict[str, dict[str, Tensor]])


class Eager:
    """Calls a function; the counterpart of :class:`CUDAGraphs`."""

    def __call__(self, step: int, function: Callable[..., Output], *inputs: Tensor) -> Output:
        """Call the function with the inputs."""
        return function(*inputs)

    def snapshot(self, terms: Terms) -> Terms:
        """Terms that the next step does not overwrite."""
        return dict(terms)


class CUDAGraphs(Eager):
    """Captures functions as CUDA graphs and replays them, without Python and without waits between kernels.

    A function is run eagerly for a few steps, then captured, once. So it must do the same at every step, must not
    synchronise with the host, and returns static tensors, which the next replay overwrites. A tensor that one captured
    function returns and another takes is passed on without a copy, with its autograd graph. Random numbers are drawn
    anew, according to the seeds of the generators at replay.

    Args:
        device: The GPU.
        generator: Besides the device's own, the generator that the functions draw from.
    """

    def __init__(self, device: torch.device, generator: torch.Generator) -> None:
        self.device, self.generator = device, generator
        self.pool = torch.cuda.graph_pool_handle()
        self.captured: dict[str, tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Any]] = {}
        self.first: int | None = None  # step

    def __call__(self, step: int, function: Callable[..., Output], *inputs: Tensor) -> Output:
        """Call, capture or replay.

        Raises:
            UserError: The function cannot be captured.
        """
        self.first = step if self.first is None else self.first
        if step < self.first + WARMUP_STEPS:
            return function(*inputs)
        if function.__name__ not in self.captured:
            self.captured[function.__name__] = self.capture(function, inputs)
        graph, static_inputs, output = self.captured[function.__name__]
        for static, value in zip(static_inputs, inputs, strict=True):
            if static is not value:
                static.data.copy_(value)  # unseen by autograd, which may hold the tensor for a later replay
        graph.replay()
        return output

    def capture(
        self, function: Callable[..., Output], inputs: tuple[Tensor, ...]
    ) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Output]:
        """Return a function's graph, its static inputs and its static output."""
        returned = [part for *_, output in self.captured.values() if isinstance(output, tuple) for part in output]
        static_inputs = tuple(v if any(v is part for part in returned) else v.clone() for v in inputs)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        try:
            # Other threads may use the GPU meanwhile.
            with torch.cuda.graph(graph, self.pool, capture_error_mode="thread_local"):
                output = function(*static_inputs)
        except RuntimeError as error:
            if is_lack_of_memory(error):
                raise
            raise UserError(
                "trainer.cuda_graphs: a step of this run cannot be captured, since it makes the host wait for the GPU "
                f"or changes from step to step ({str(error).splitlines()[0]}); trainer.cuda_graphs=false"
            ) from error
        return graph, static_inputs, output

    def snapshot(self, terms: Terms) -> Terms:
        """Copies of the terms: the next replay overwrites the static tensors."""
        return {network: {name: term.clone() for name, term in of.items()} for network, of in terms.items()}
