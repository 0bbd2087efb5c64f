"""CUDA graphs: what a function makes the GPU do, recorded once and then replayed by a single call from Python."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from gan_lightning.errors import UserError
from gan_lightning.memory import is_lack_of_memory

WARM_UP = 3  # steps that are played as usual first, in which cuDNN, cuBLAS and compilers make up their minds

Terms = TypeVar("Terms", bound=dict[str, dict[str, Tensor]])


class Play:
    """Calls a function; what :class:`Graphs` does otherwise."""

    def __call__(self, step: int, function: Callable[..., None], *inputs: Tensor) -> None:
        """Do as the function does."""
        function(*inputs)

    def kept(self, terms: Terms) -> Terms:
        """Terms that the next step leaves as they are."""
        return dict(terms)


class Graphs(Play):
    """Replays on the GPU what a function did when it was recorded, without Python and without a wait between kernels.

    A function is played as it is for a few steps, then recorded, once. So it must do the same at every step, read the
    host for nothing, and keep all that lasts in tensors, which the next replay overwrites. Random numbers are drawn
    anew, as the generators' seeds of the moment have it.

    Args:
        device: The GPU.
        generator: Besides the device's own, the generator that the functions draw from.
    """

    def __init__(self, device: torch.device, generator: torch.Generator) -> None:
        self.device, self.generator = device, generator
        self.pool = torch.cuda.graph_pool_handle()
        self.recorded: dict[str, tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]]] = {}
        self.first: int | None = None  # step

    def __call__(self, step: int, function: Callable[..., None], *inputs: Tensor) -> None:
        """Play, record or replay.

        Raises:
            UserError: What the function does cannot be recorded.
        """
        self.first = step if self.first is None else self.first
        if step < self.first + WARM_UP:
            function(*inputs)
            return
        if function.__name__ not in self.recorded:
            self.recorded[function.__name__] = self.record(function, inputs)
        graph, places = self.recorded[function.__name__]
        for place, value in zip(places, inputs, strict=True):
            place.data.copy_(value)  # unseen by autograd, which may hold the place for a later replay
        graph.replay()

    def record(
        self, function: Callable[..., None], inputs: tuple[Tensor, ...]
    ) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]]:
        """A function's graph, and where it finds its inputs."""
        graph, places = torch.cuda.CUDAGraph(), tuple(value.clone() for value in inputs)
        graph.register_generator_state(self.generator)
        try:
            # Other threads may use the GPU meanwhile.
            with torch.cuda.graph(graph, self.pool, capture_error_mode="thread_local"):
                function(*places)
        except RuntimeError as error:
            if is_lack_of_memory(error):
                raise
            raise UserError(
                "trainer.cuda_graphs: a step of this run cannot be recorded, since it makes the host wait for the GPU "
                f"or changes from step to step ({str(error).splitlines()[0]}); trainer.cuda_graphs=false"
            ) from error
        return graph, places

    def kept(self, terms: Terms) -> Terms:
        """Copies: the next replay writes into the same places."""
        return {player: {name: term.clone() for name, term in of.items()} for player, of in terms.items()}
