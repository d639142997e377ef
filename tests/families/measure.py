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
from ocl_edge.network.zoo import parse_spec
from ocl_edge.timings import mask_latency_ms
from ocl_edge_export.outputs import choose_output, named_tensors
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from tests.doubles.images import random_image

HEIGHT, WIDTH = 128, 192
ROUNDS = 15
BACKENDS = ("openvino", "onnxruntime", "torch")


def measure(spec: str, directory: Path) -> dict[str, Any]:
    """Numbers of one family; see the keys."""
    torch.manual_seed(0)
    network = parse_spec(spec).build().eval()
    torch.save(network.state_dict(), directory / "net.pth")
    request = ExportRequest(directory / "net.pth", directory / "out", arch=spec, input_size=(HEIGHT, WIDTH))
    before = time.perf_counter()
    bundle = export_bundle(request)
    exported_s = time.perf_counter() - before
    unfit = bundle.manifest.unfit_backends
    return {
        "spec": spec,
        "weights": sum(p.numel() for p in network.parameters()),
        "norms": len(bundle.manifest.norms),
        "head": bundle.manifest.head_module,
        "export_s": exported_s,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "unfit": unfit,
        "differs": {name: _differs(network, bundle, name) for name in BACKENDS if name not in unfit},
        **_realtime(bundle),
    }


def _differs(network: torch.nn.Module, bundle: Bundle, backend: str) -> float:
    """Share of the pixels whose class is not that of the network itself."""
    image = random_image(0, HEIGHT, WIDTH)
    expected = _mask_of(network, image, bundle)
    with open_session(bundle, SessionOptions(method="frozen", backend=backend, threads=1)) as session:
        return float((session.step(image).mask != expected).mean())


def _realtime(bundle: Bundle) -> dict[str, Any]:
    """Time to the mask, frozen and while it adapts, in turn; how many frames were learned from."""
    frozen = SessionOptions(method="frozen", threads=1)
    adapting = SessionOptions(method="ocl-head", threads=1, opening=1.0)
    times: dict[str, list[float]] = {"frozen": [], "realtime": []}
    learned = 0
    with open_session(bundle, frozen) as one, open_session(bundle, adapting, RealtimeOptions()) as other:
        for index in range(ROUNDS):
            image = random_image(index, HEIGHT, WIDTH)
            for name, session in (("frozen", one), ("realtime", other)):
                result = session.step(image)
                learned += result.verdict.applied
                times[name].append(mask_latency_ms(result.timings_ms))
    medians = {name: statistics.median(values[3:]) for name, values in times.items()}
    return {f"{name}_ms": value for name, value in medians.items()} | {"learned": learned, "frames": ROUNDS}


@torch.no_grad()
def _mask_of(network: torch.nn.Module, image: np.ndarray[Any, Any], bundle: Bundle) -> np.ndarray[Any, Any]:
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in (bundle.manifest.input.mean, bundle.manifest.input.std)
    )
    output = network((torch.from_numpy(image).permute(2, 0, 1)[None] / 255 - mean) / std)
    logits = named_tensors(output)[choose_output(output).name]
    if logits.shape[2:] != image.shape[:2]:
        logits = torch.nn.functional.interpolate(
            logits, image.shape[:2], mode="bilinear", align_corners=False
        )
    return logits.argmax(1)[0].numpy()


def main(spec: str, directory: str | None = None) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        sys.stdout.write(json.dumps(measure(spec, Path(directory or place))) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
