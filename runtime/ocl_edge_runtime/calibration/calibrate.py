"""What unlabelled home frames tell of a network: the whole of ``ocl-edge calibrate``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ocl_edge.bundle.home import require_all_outputs, store_homes
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BundleError
from ocl_edge.tensors import require_torch
from ocl_edge_runtime.backends import open_backend
from ocl_edge_runtime.calibration.findings import (
    Calibration,
    Progress,
)
from ocl_edge_runtime.calibration.frames import GivenFrames
from ocl_edge_runtime.calibration.measuring import HeadAsTrained, Measurer
from ocl_edge_runtime.calibration.with_norms import StagesWithNorms
from ocl_edge_runtime.calibration.without_norms import StagesWithoutNorms


def calibrate_bundle(
    bundle: Bundle,
    frames: GivenFrames,
    backend: str = "auto",
    threads: int | None = None,
    progress: Progress = lambda _: None,
) -> tuple[Bundle, Calibration]:
    """Measure home, and store in the bundle what was found. The same frames find the same.

    Args:
        bundle: of the network.
        frames: of its home, unlabelled.
        backend: that runs it.
        threads: for one operator of the backend.
        progress: called with the name of each stage as it begins.

    Raises:
        BundleError: no norm of the network tells home from away; or the bundle cannot be written.
        BackendError: the backend cannot run here.
        FrameError: a frame cannot be read any more.
        MissingExtraError: PyTorch is not installed.
    """
    stored, found = calibrate_outputs({bundle.output: bundle}, frames, backend, threads, progress)
    return stored[bundle.output], found[bundle.output]


def calibrate_outputs(
    bundles: Mapping[str, Bundle],
    frames: GivenFrames,
    backend: str = "auto",
    threads: int | None = None,
    progress: Progress = lambda _: None,
) -> tuple[dict[str, Bundle], dict[str, Calibration]]:
    """As `calibrate_bundle`, every output by its name (`Bundle.open_outputs`), over one backbone.

    Home and its limits are the backbone's, and so are the weights of the norms: those that agree best on the
    mean of all outputs, and lose on none. Each head gets a rate of its own.
    """
    require_torch("calibrate")
    require_all_outputs(bundles)
    bundle = next(iter(bundles.values()))
    if len(bundles) > 1 and not bundle.manifest.norms:
        raise BundleError(
            f"{bundle.path} has several outputs and no norms: what moves the input of one head home is not "
            "the others'; export one output (--output NAME) to calibrate it"
        )
    if bundle.manifest.norms and not bundle.manifest.sensing_norms:
        raise BundleError(
            f"{bundle.path}: no norm of this network sees the image unmixed, so home frames tell nothing "
            "of it; it stays frozen, as without calibration, and --opening 1 adapts always"
        )
    with open_backend(bundle, backend, threads).backend as opened:
        stages = StagesWithNorms if bundle.manifest.norms else StagesWithoutNorms
        heads = {name: HeadAsTrained(each) for name, each in bundles.items()}
        found = stages(Measurer(bundle, opened), heads, frames, progress).run()
    progress("write bundle")
    stored = store_homes(bundles, {name: (each.home, each.tensors) for name, each in found.items()})
    homes = {name: each.manifest.home for name, each in stored.items()}
    return stored, {n: replace(found[n], home=home) for n, home in homes.items() if home is not None}
