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
from tests.doubles.published_kinds import BACKENDS, OUTPUTS, differs, learned, with_norms_of
from tests.families.families import size_of

ROUNDS = 45
CLASSES = 5
LEAST_SPREAD = 1e-3
"""Deviation of logits over an image below which the rounding of a step is no longer small beside it."""
ENGINES = BuildRequest("tensorrt-rtx", targets=("sm86",), forms=("plain", "measured"))


def measure(spec: str, directory: Path, size: tuple[int, int]) -> dict[str, Any]:
    """Numbers of one family; see the keys."""
    torch.manual_seed(0)
    network = with_norms_of(parse_spec(spec).build().eval(), size)
    spread_logits(network, size)
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


@torch.no_grad()
def spread_logits(network: torch.nn.Module, size: tuple[int, int]) -> None:
    """Scale the classifiers of a fresh network whose logits hardly differ; a fresh DPT's do by 4e-5."""
    tensors = named_tensors(network(torch.randn(1, 3, *size)))
    logits = next(each for each in tensors.values() if each.dim() == 4 and each.shape[1] == CLASSES)
    spread = float(logits.std((2, 3)).mean())
    for module in network.modules():
        if spread < LEAST_SPREAD and isinstance(module, torch.nn.Conv2d) and module.out_channels == CLASSES:
            module.weight /= spread


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


def _engines(bundle: Bundle) -> str:
    """`compiled`, or why not; the forms between them hold every operator that an engine must know."""
    try:
        build_engines(bundle, ENGINES)
    except BuildError as error:
        return str(error)
    return "compiled"


def main(spec: str, directory: str | None = None) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        sys.stdout.write(json.dumps(measure(spec, Path(directory or place), size_of(spec))) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
