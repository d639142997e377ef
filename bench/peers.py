"""A mask from this project against what one would do without it, interleaved in one process.

    python bench/peers.py CHECKPOINT --source DIR [--input-size 384x512] [--frames 20]

* direct: the whole network with resize to the frame and argmax in one ONNX graph, called straight away;
* frozen, realtime: sessions of this project, on the same backends;
* published: the loop of the paper, all weights by gradient in PyTorch, an update every frame.

One thread, the same preprocessing, real frames. Times are of a frame with its update; each is compared with
the direct call of its backend, frame by frame.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import click
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ocl_edge.bundle.reading import Bundle
from ocl_edge.network.preprocess import Preprocessor
from ocl_edge.openvino_core import openvino_core
from ocl_edge_app.cli.export import parse_size
from ocl_edge_export.checkpoint import load_network, read_checkpoint
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions

Work = Callable[[NDArray[np.uint8]], object]

PAPER = SessionOptions("ocl-full", backend="torch", threads=1, opening=1)


class Masks(nn.Module):
    """Normalised image -> mask at the frame's size, as a user would put it into one graph."""

    def __init__(self, network: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.network = network
        self.size = size

    def forward(self, image: Tensor) -> Tensor:
        """float32 [1, 3, H, W] -> uint8 [1, height, width]."""
        logits = self.network(image)
        return (
            F.interpolate(logits, self.size, mode="bilinear", align_corners=False).argmax(1).to(torch.uint8)
        )


def direct_calls(file: Path, preprocessor: Preprocessor) -> dict[str, Work]:
    """The graph in each framework, from a frame to its mask."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino_core().compile_model(str(file), "CPU", settings).create_infer_request()
    return {
        "direct, onnxruntime": lambda image: session.run(None, {"image": preprocessor.single(image).numpy()}),
        "direct, openvino": lambda image: request.infer({"image": preprocessor.single(image).numpy()}),
    }


def write_graph(checkpoint: Path, size: tuple[int, int], frame: tuple[int, int], file: Path) -> None:
    network = load_network(read_checkpoint(checkpoint), None).network.eval()
    with torch.no_grad():
        torch.onnx.export(
            Masks(network, frame),
            (torch.zeros(1, 3, *size),),
            file,
            dynamo=True,
            verbose=False,
            input_names=["image"],
        )


def sessions(bundle: Bundle, stack: ExitStack) -> dict[str, Work]:
    """This project's ways, and the published one."""
    works: dict[str, Work] = {}
    realtime = RealtimeOptions(adapt_every=1)
    rows = [
        (f"{name}, {backend}", SessionOptions(method, "single", backend, threads=1, opening=1), how)
        for backend in ("onnxruntime", "openvino")
        for name, method, how in (
            ("frozen", "frozen", None),
            ("norms", "norm", realtime),
            ("norms and head", "ocl-head", realtime),
        )
    ]
    for name, options, how in [*rows, ("published", PAPER, None)]:
        session = stack.enter_context(open_session(bundle, options, how))
        session.warm_up()
        works[name] = session.step
    return works


def race(works: dict[str, Work], images: list[NDArray[np.uint8]]) -> dict[str, NDArray[np.float64]]:
    """Milliseconds of every frame; the order turns round from frame to frame."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for index, image in enumerate([images[0], *images]):
        for name in list(works)[:: 1 if index % 2 else -1]:
            start = time.perf_counter()
            works[name](image)
            if index:  # the first frame loads
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: np.array(ms) for name, ms in times.items()}


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--source", type=click.Path(path_type=Path), required=True)
@click.option("--input-size", callback=parse_size, default="384x512", show_default=True)
@click.option("--frames", type=click.IntRange(min=2), default=20, show_default=True)
def main(checkpoint: Path, source: Path, input_size: tuple[int, int], frames: int) -> None:
    """Race this project's sessions with direct calls and with the published loop."""
    torch.set_num_threads(1)
    images = [np.array(Image.open(file).convert("RGB")) for file in sorted(source.glob("*.png"))[:frames]]
    height, width = images[0].shape[:2]
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        file = Path(directory) / "direct.onnx"
        write_graph(checkpoint, input_size, (height, width), file)
        request = ExportRequest(checkpoint, Path(directory) / "bundle", input_size=input_size)
        bundle = export_bundle(request)
        direct = direct_calls(file, Preprocessor(bundle.manifest.input))
        times = race({**direct, **sessions(bundle, stack)}, images)
    print(f"{width}x{height} frames\n\n| | ms a frame | over the direct call |\n|---|---|---|")
    for name, ms in times.items():
        backend = name.partition(", ")[2] or "onnxruntime"
        low, middle, high = np.percentile(ms / times[f"direct, {backend}"], (10, 50, 90))
        print(f"| {name} | {np.median(ms):.1f} | {middle:.2f} ({low:.2f} to {high:.2f}) |")


if __name__ == "__main__":
    main()
