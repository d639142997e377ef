"""One family in a process of its own: exported, run on every backend, adapted, timed. Prints one JSON object.

python -m tests.families.measure SPEC [DIRECTORY]
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BuildError
from ocl_edge.network.zoo import parse_spec
from ocl_edge.timings import mask_latency_ms
from ocl_edge_export.engines.build import build_engines
from ocl_edge_export.engines.request import BuildRequest
from ocl_edge_export.outputs import named_tensors
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from tests.doubles.images import random_image
from tests.families.families import OUTPUTS, size_of

ROUNDS = 45
FRAMES = 4
BACKENDS = ("openvino", "onnxruntime", "torch")
ENGINES = BuildRequest("tensorrt-rtx", targets=("sm86",), forms=("plain", "measured"))


def measure(spec: str, directory: Path, size: tuple[int, int]) -> dict[str, Any]:
    """Numbers of one family; see the keys."""
    torch.manual_seed(0)
    network = with_norms_of(parse_spec(spec).build().eval(), size)
    torch.save(network.state_dict(), directory / "net.pth")
    request = ExportRequest(
        directory / "net.pth", directory / "out", arch=spec, input_size=size, output=OUTPUTS.get(spec)
    )
    before, cpu = time.perf_counter(), time.process_time()
    bundle = export_bundle(request)
    exported_s, exported_cpu_s = time.perf_counter() - before, time.process_time() - cpu
    unfit = bundle.manifest.unfit_backends
    fit = [name for name in BACKENDS if name not in unfit]
    return {
        "spec": spec,
        "weights": sum(p.numel() for p in network.parameters()),
        "norms": len(bundle.manifest.norms),
        "head": bundle.manifest.head_module,
        "export_s": exported_s,
        "export_cpu_s": exported_cpu_s,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "unfit": unfit,
        "differs": {name: differs(network, bundle, name) for name in fit},
        "learned": {name: learned(bundle, name) for name in fit},
        "realtime_over_frozen": realtime_over_frozen(bundle),
        "engines": _engines(bundle),
    }


def differs(network: torch.nn.Module, bundle: Bundle, backend: str) -> float:
    """Share of the pixels whose class is not that of the network itself."""
    image = random_image(0, bundle.manifest.input.height, bundle.manifest.input.width)
    expected = _mask_of(network, image, bundle)
    with open_session(bundle, SessionOptions(method="frozen", backend=backend, threads=1)) as session:
        return float((session.step(image).mask != expected).mean())


def learned(bundle: Bundle, backend: str, frames: int = FRAMES) -> int:
    """Of some frames as published, how many the head learns from."""
    size = (bundle.manifest.input.height, bundle.manifest.input.width)
    options = SessionOptions(method="ocl-head", backend=backend, threads=1, opening=1.0)
    with open_session(bundle, options) as session:
        return sum(session.step(random_image(seed, *size)).verdict.applied for seed in range(frames))


def realtime_over_frozen(bundle: Bundle) -> float:
    """Time to a mask with the frame's own statistics over that of a frozen one: median of rounds in turn."""
    frozen = SessionOptions(method="frozen", threads=1)
    adapting = SessionOptions(method="ocl-head", threads=1, opening=1.0)
    masks_alone = RealtimeOptions(adapt_every=10 * ROUNDS)
    size = (bundle.manifest.input.height, bundle.manifest.input.width)
    ratios = []
    with open_session(bundle, frozen) as one, open_session(bundle, adapting, masks_alone) as other:
        for index in range(ROUNDS):
            image = random_image(index, *size)
            took = [mask_latency_ms(session.step(image).timings_ms) for session in (one, other)]
            ratios.append(took[1] / took[0])
    return statistics.median(ratios[5:])


@torch.no_grad()
def with_norms_of(network: torch.nn.Module, size: tuple[int, int]) -> torch.nn.Module:
    """The network with the statistics of pictures: with those of new norms it computes nearly zeros."""
    norms = [m for m in network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the mean over all batches
        norm.train()
    network(
        torch.stack([torch.from_numpy(random_image(100 + i, *size)) for i in range(4)]).permute(0, 3, 1, 2)
        / 127.5
        - 1
    )
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval()


def _engines(bundle: Bundle) -> str:
    """`compiled`, or why not; the forms between them hold every operator that an engine must know."""
    try:
        build_engines(bundle, ENGINES)
    except BuildError as error:
        return str(error)
    return "compiled"


@torch.no_grad()
def _mask_of(network: torch.nn.Module, image: np.ndarray[Any, Any], bundle: Bundle) -> np.ndarray[Any, Any]:
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in (bundle.manifest.input.mean, bundle.manifest.input.std)
    )
    output = network((torch.from_numpy(image).permute(2, 0, 1)[None] / 255 - mean) / std)
    logits = named_tensors(output)[bundle.manifest.output.name]
    if logits.shape[2:] != image.shape[:2]:
        logits = torch.nn.functional.interpolate(
            logits, image.shape[:2], mode="bilinear", align_corners=False
        )
    return logits.argmax(1)[0].numpy()


def main(spec: str, directory: str | None = None) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        sys.stdout.write(json.dumps(measure(spec, Path(directory or place), size_of(spec))) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
