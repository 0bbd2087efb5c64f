"""Conversion of a generator to ONNX, and its comparison with torch."""

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

from gan_lightning.errors import UserError, short_message
from gan_lightning.io.image import to_uint8
from gan_lightning.model.sampling import SamplingMixin

TOLERANCE = 1e-5  # largest difference between torch and ONNX, of samples in [-1, 1]
NUM_COMPARED = 1000  # latents


def to_onnx(model: SamplingMixin) -> tuple[bytes, float]:
    """Convert a generator to ONNX and compare its samples with torch's.

    The first output are images as torch-fidelity expects them, uint8 (N, 3, H, W), the second one the samples
    themselves; a generator of points has the latter only.

    Returns:
        Content of the ONNX file, and the largest absolute difference of a sample.

    Raises:
        UserError: The generator cannot be converted, or the difference is larger than 1e-5.
    """
    z, y = model.draw_latents(NUM_COMPARED, seed=0)
    inputs = {"latent": z, "label": y} if model.num_classes else {"latent": z}
    names = ["pixels", "images"] if model.sample(1).ndim == 4 else ["points"]
    try:
        content = export_graph(as_graph(model), inputs, names)
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        samples = session.run([names[-1]], {name: value.numpy() for name, value in inputs.items()})[0]
    except Exception as error:  # many types, since a user-supplied network may use any operation
        raise UserError(
            f"this generator cannot be converted to ONNX ({short_message(error)}); add --no-onnx to write "
            "safetensors only"
        ) from error
    difference = float((torch.from_numpy(samples) - model.generate(z, y)).abs().max())
    if not difference <= TOLERANCE:
        raise UserError(
            f"samples of ONNX differ from those of torch by {difference:.1e}; add --no-onnx to write safetensors only"
        )
    return content, difference


def export_graph(graph: nn.Module, inputs: dict[str, Tensor], outputs: list[str]) -> bytes:
    """Return the content of an ONNX file of a module, with a dynamic batch size."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's warnings about itself
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
        del node.metadata_props[:]  # has paths of source files on this machine
    return model.SerializeToString()


def as_graph(model: SamplingMixin) -> nn.Module:
    """Wrap a generator in a module with the inputs and outputs of the ONNX file."""

    class Unconditional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.generator = model.generator

        def forward(self, z: Tensor) -> tuple[Tensor, ...]:
            return self.outputs(z, z.new_zeros(z.shape[0]).long())  # len() would make the batch size static

        def outputs(self, z: Tensor, y: Tensor) -> tuple[Tensor, ...]:
            samples = self.generator(z, y)
            if samples.ndim == 2:
                return (samples,)
            pixels = to_uint8(samples)
            return pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels, samples

    class Conditional(Unconditional):
        def forward(self, z: Tensor, y: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]  # has labels
            return self.outputs(z, y)

    return (Conditional if model.num_classes else Unconditional)().eval()
