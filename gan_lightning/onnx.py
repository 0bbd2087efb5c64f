"""A generator as ONNX, for whoever runs it without torch."""

import contextlib
import io
import logging
import tempfile
import warnings
from pathlib import Path

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from gan_lightning.errors import UserError, first_line
from gan_lightning.image import to_uint8
from gan_lightning.sampler import Sampler

TOLERANCE = 1e-5  # between torch and ONNX, of samples in [-1, 1]
TRIED = 1000  # latents


def as_onnx(model: Sampler) -> tuple[bytes, float]:
    """A generator as the content of an ONNX file, compared with torch.

    Its first output are the pictures as torch-fidelity takes them, uint8 (N, 3, H, W); the second the samples
    themselves, which of points are all.

    Returns:
        The content, and the largest difference of a sample.

    Raises:
        UserError: It is larger than 1e-5.
    """
    z, y = model.draw_latents(TRIED, seed=0)
    inputs = {"latent": z, "label": y} if model.num_classes else {"latent": z}
    names = ["pixels", "images"] if model.sample(1).ndim == 4 else ["points"]
    try:
        content = exported(as_graph(model), inputs, names)
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        samples = session.run([names[-1]], {name: value.numpy() for name, value in inputs.items()})[0]
    except Exception as error:  # of two libraries, for whatever a network of the user's own does
        raise UserError(f"ONNX does not take this generator ({first_line(error)}); --no-onnx does without") from error
    apart = float((torch.from_numpy(samples) - model.generate(z, y)).abs().max())
    if not apart <= TOLERANCE:
        raise UserError(f"ONNX makes samples that are {apart:.1e} apart from torch's; --no-onnx does without")
    return content, apart


def exported(graph: nn.Module, inputs: dict[str, Tensor], outputs: list[str]) -> bytes:
    """The content of an ONNX file of a graph, whose batches may be of any size."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        file = Path(folder, "generator.onnx")
        with contextlib.redirect_stdout(io.StringIO()):
            torch.onnx.export(
                graph,
                tuple(value[:7] for value in inputs.values()),
                str(file),
                dynamo=True,
                external_data=False,
                input_names=[*inputs],
                output_names=outputs,
                dynamic_shapes=tuple({0: torch.export.Dim("batch")} for _ in inputs),
                verbose=False,
            )
        model = onnx.load(file)
    for node in model.graph.node:
        del node.metadata_props[:]  # where on this disk the code lies that it is of
    return model.SerializeToString()


def as_graph(model: Sampler) -> nn.Module:
    """A generator with the inputs and outputs that ONNX is to have."""

    class Unconditional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.generator = model.generator

        def forward(self, z: Tensor) -> tuple[Tensor, ...]:
            return self.outputs(z, z.new_zeros(z.shape[0]).long())  # len() would fix the batch's size

        def outputs(self, z: Tensor, y: Tensor) -> tuple[Tensor, ...]:
            samples = self.generator(z, y)
            if samples.ndim == 2:
                return (samples,)
            pixels = to_uint8(samples)
            return pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels, samples

    class Conditional(Unconditional):
        def forward(self, z: Tensor, y: Tensor) -> tuple[Tensor, ...]:
            return self.outputs(z, y)

    return (Conditional if model.num_classes else Unconditional)().eval()
