"""CUDA graphs: capture the GPU work of a function once, then replay it with a single call."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from gan_lightning.errors import UserError
from gan_lightning.io.memory import is_out_of_memory

WARMUP_STEPS = 3  # run eagerly before capture: autotuning, lazy initialisation, compilation

Output = TypeVar("Output")
Terms = dict[str, dict[str, Tensor]]  # by network and name


class Eager:
    """Executor that calls functions without a CUDA graph; has the interface of :class:`CUDAGraphs`."""

    def __call__(self, step: int, function: Callable[..., Output], *inputs: Tensor) -> Output:
        """Call the function with the inputs."""
        return function(*inputs)

    def snapshot(self, terms: Terms) -> Terms:
        """Return terms that the next step does not overwrite."""
        return dict(terms)


class CUDAGraphs(Eager):
    """Executor that captures functions as CUDA graphs and replays them, without Python overhead between kernels.

    A function runs eagerly during the warm-up steps and is then captured once. It must therefore do the same in every
    step and must not synchronise with the host. It returns static tensors, which the next replay overwrites. A tensor
    that one captured function returns and another one takes is passed without a copy, together with its autograd graph.
    Each replay draws new random numbers, according to the state of the generators at that time.

    Args:
        device: The GPU.
        generator: The generator that the functions draw from, in addition to the device's default generator.
    """

    def __init__(self, device: torch.device, generator: torch.Generator) -> None:
        self.device, self.generator = device, generator
        self.pool = torch.cuda.graph_pool_handle()
        self.captured: dict[str, tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Any]] = {}
        self.first_step: int | None = None

    def __call__(self, step: int, function: Callable[..., Output], *inputs: Tensor) -> Output:
        """Run the function: eagerly during warm-up, otherwise by capture (once) and replay.

        Raises:
            UserError: The function cannot be captured.
        """
        self.first_step = step if self.first_step is None else self.first_step
        if step < self.first_step + WARMUP_STEPS:
            return function(*inputs)
        if function.__name__ not in self.captured:
            self.captured[function.__name__] = self.capture(function, inputs)
        graph, static_inputs, output = self.captured[function.__name__]
        for static, value in zip(static_inputs, inputs, strict=True):
            if static is not value:
                static.data.copy_(value)  # .data bypasses autograd, which may have saved the tensor for a later replay
        graph.replay()
        return output

    def capture(
        self, function: Callable[..., Output], inputs: tuple[Tensor, ...]
    ) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Output]:
        """Capture a function; return its graph, its static inputs and its static output."""
        returned = [part for *_, output in self.captured.values() if isinstance(output, tuple) for part in output]
        static_inputs = tuple(v if any(v is part for part in returned) else v.clone() for v in inputs)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        try:
            # "thread_local" allows other threads to use the GPU during capture.
            with torch.cuda.graph(graph, self.pool, capture_error_mode="thread_local"):
                output = function(*static_inputs)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise UserError(
                "trainer.cuda_graphs: a step of this run cannot be captured as a CUDA graph, since it synchronises "
                f"with the host or varies between steps ({str(error).splitlines()[0]}); trainer.cuda_graphs=false"
            ) from error
        return graph, static_inputs, output

    def snapshot(self, terms: Terms) -> Terms:
        """Return copies of the terms, since the next replay overwrites the static tensors."""
        return {network: {name: term.clone() for name, term in of.items()} for network, of in terms.items()}
