"""Bundle -> engines: the whole of ``ocl-edge build``."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import onnx
from torch import Tensor

from ocl_edge._version import __version__
from ocl_edge.bundle.manifest import file_sha256
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BackendError, BuildError, OutputError, UsageError
from ocl_edge.network.form_names import HEAD_GRAPHS
from ocl_edge.scoring.labels import read_label_space
from ocl_edge.tensorrt.driver import probe_cuda
from ocl_edge.tensorrt.key import EngineKey, EngineRecord, Here, graph_hashes, precision_of
from ocl_edge.tensorrt.plan import Plan, read_plan
from ocl_edge.tensorrt.store import (
    StoredEngine,
    build_lock,
    find_built,
    staging_directory,
    store_engine,
    writable_directory,
)
from ocl_edge.user_cache import user_cache
from ocl_edge_export.engines.node_costs import node_costs
from ocl_edge_export.engines.precision_gate import check_precision, read_labels
from ocl_edge_export.engines.process import run_worker
from ocl_edge_export.engines.request import BuildRequest
from ocl_edge_export.precision import write_converted
from ocl_edge_export.sample_images import noise_images, read_images

Progress = Callable[[str], None]

DESCRIBE_TIMEOUT_S = 60.0
CALIBRATION_IMAGES = 16
USUAL_STRIDE = 4
"""Realtime mode's loss takes every 4th pixel; a head step is tuned for that."""


@dataclass(frozen=True)
class BuiltEngine:
    """An engine that is there now, and whether this build made it."""

    engine: StoredEngine
    built: bool
    warnings: tuple[str, ...] = ()


def plan_build(bundle: Bundle, request: BuildRequest) -> list[EngineKey]:
    """The keys of the engines that a request asks for; nothing is built.

    Raises:
        UsageError: a target that the library does not know, or targets for classic TensorRT.
        BackendError: a GPU is needed and there is none.
        MissingExtraError: the library is not installed.
    """
    library = run_worker({"job": "describe", "flavour": request.flavour}, DESCRIBE_TIMEOUT_S)
    version, known = str(library["version"]), tuple(library["targets"])
    tuned_for: dict[str, str | None] = {}
    if request.flavour == "tensorrt":
        if request.targets:
            raise UsageError("tensorrt builds for the GPU that it runs on; --targets belongs to tensorrt-rtx")
        here = Here.of(request.flavour, version, probe_cuda())
        targets: tuple[str, ...] = (here.compute_capability,)
        tuned_for = {"gpu": here.gpu, "cuda": here.cuda, "driver": here.driver}
    else:
        targets = request.targets or (_own_compute_capability(),)
        unknown = [target for target in targets if target not in known]
        if unknown:
            raise UsageError(
                f"tensorrt-rtx {version} does not build for {', '.join(unknown)}; it knows {', '.join(known)}"
                + ("" if request.targets else "; on a Jetson use --backend tensorrt")
            )
    frame = bundle.manifest.input
    keys = []
    for form in request.forms:
        graph, weights = graph_hashes(bundle, form)
        keys.append(
            EngineKey(
                form=form,
                onnx_sha256=graph,
                weights_sha256=weights,
                flavour=request.flavour,
                version=version,
                compute_capabilities=tuple(sorted(set(targets), key=lambda name: int(name[2:]))),
                precision=precision_of(form, request.precision),
                height=frame.height,
                width=frame.width,
                min_batch=request.min_batch,
                opt_batch=request.opt_batch,
                max_batch=request.max_batch,
                flags=request.flags,
                calibration_sha256=_hash_calibration(request),
                **tuned_for,
            )
        )
    return keys


def build_engines(
    bundle: Bundle, request: BuildRequest, progress: Progress = lambda _: None
) -> list[BuiltEngine]:
    """Build what a request asks for and is not there yet; each engine in its own process.

    Raises:
        BuildError: an engine could not be built, or nothing can be written.
        ParityError: the graph in this precision is too far from the float32 one.
        UsageError, BackendError, MissingExtraError: see `plan_build`.
    """
    keys = plan_build(bundle, request)
    directory = writable_directory(bundle)
    return [_build_once(bundle, request, key, directory, progress) for key in keys]


def _build_once(
    bundle: Bundle, request: BuildRequest, key: EngineKey, directory: Path, progress: Progress
) -> BuiltEngine:
    def tell(words: str) -> None:
        progress(f"{key.form}: {words}")

    with build_lock(directory, key, tell):
        # looked for under the lock: whoever waited finds what the other process built
        there = None if request.rebuild else find_built(bundle, directory, key)
        if there is not None:
            return BuiltEngine(there, built=False)
        try:
            with staging_directory(directory, key) as staging:
                return _build(bundle, request, key, directory, staging, tell)
        except (OSError, OutputError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            raise BuildError(f"the engine cannot be written to {directory}: {reason}") from error


def _build(
    bundle: Bundle, request: BuildRequest, key: EngineKey, directory: Path, staging: Path, tell: Progress
) -> BuiltEngine:
    graph = bundle.graph_file(key.form)
    parity = None
    if key.form != "head" and key.form != "head_step" and key.precision != "fp32":
        tell(f"convert to {key.precision}")
        calibration = _calibration_images(bundle, request)
        converted = write_converted(bundle, key.form, key.precision, staging, calibration)
        tell(f"check {key.precision} against fp32")
        space = read_label_space(bundle.manifest, request.label_map, request.label_classes)
        labels = (
            read_labels(request.labels, request.calibration, space, CALIBRATION_IMAGES)
            if request.labels and request.calibration
            else None
        )
        parity = check_precision(bundle, key.form, converted, key.precision, calibration, labels, space)
        graph = converted
    engine = staging / f"{key.form}.engine"
    start = time.monotonic()
    done = run_worker(_job(bundle, graph, engine, key, request), request.timeout_s, tell)
    record = EngineRecord(
        key=key,
        sha256=file_sha256(engine),
        bytes=engine.stat().st_size,
        build_s=round(time.monotonic() - start, 3),
        built_at=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        created_with={"ocl-edge": __version__, key.flavour: str(done["version"])},
        parity=parity,
        plan=_plan(done["plan"], graph) if key.form not in HEAD_GRAPHS else None,
    )
    return BuiltEngine(store_engine(bundle, directory, engine, record), True, tuple(done["warnings"]))


def _plan(log: list[str], graph: Path) -> Plan | None:
    return read_plan(log, node_costs(onnx.load(graph, load_external_data=False)))


def _job(bundle: Bundle, graph: Path, engine: Path, key: EngineKey, request: BuildRequest) -> dict[str, Any]:
    return {
        "job": "build",
        "flavour": key.flavour,
        "onnx": str(graph),
        "engine": str(engine),
        "shapes": _shapes(bundle, key),
        "targets": list(key.compute_capabilities) if key.flavour == "tensorrt-rtx" else [],
        "workspace_mib": request.workspace_mib,
        "tf32": request.tf32 and key.form not in HEAD_GRAPHS,
        "timing_cache": str(_timing_cache(key)) if key.flavour == "tensorrt" else None,
    }


def _shapes(bundle: Bundle, key: EngineKey) -> dict[str, dict[str, list[int]]]:
    """Least, usual and largest shape of the input that has free sizes: the image, or a head's features.

    A head runs on all pixels and on every n-th in both directions, and learns on the latter.
    """
    free = bundle.manifest.graphs[key.form].inputs[0]
    if -1 not in free.shape:
        return {}
    channels = bundle.manifest.input.channels
    full = (
        (0, channels, key.height, key.width)
        if free.name == "image"
        else (0, *bundle.manifest.head_features[0])
    )
    usual = [-(-side // USUAL_STRIDE) for side in full] if key.form == "head_step" else full
    sides = {"min": [1] * 4, "opt": usual, "max": full}
    batches = {"min": key.min_batch, "opt": key.opt_batch, "max": key.max_batch}
    return {
        free.name: {
            which: [
                side if side != -1 else batches[which] if axis == 0 else sides[which][axis]
                for axis, side in enumerate(free.shape)
            ]
            for which in batches
        }
    }


def _own_compute_capability() -> str:
    try:
        return probe_cuda().gpus[0].compute_capability
    except BackendError as error:
        raise BackendError(f"{error}. Or name the GPUs to build for: --targets sm86,sm89") from error


def _timing_cache(key: EngineKey) -> Path:
    """Layer timings of this GPU, shared by all its builds."""
    gpu = re.sub(r"\W+", "-", key.gpu or "")
    return user_cache() / "timings" / f"{key.version}-{key.compute_capabilities[0]}-{gpu}.cache"


def _calibration_images(bundle: Bundle, request: BuildRequest) -> Tensor:
    if request.calibration is None:
        return noise_images(bundle.manifest.input)
    return read_images(request.calibration, bundle.manifest.input, CALIBRATION_IMAGES)


def _hash_calibration(request: BuildRequest) -> str | None:
    """Of the names and contents of the images; only int8 depends on them."""
    if request.precision != "int8" or request.calibration is None:
        return None
    digest = hashlib.sha256()
    for file in sorted(f for f in request.calibration.glob("*") if f.is_file()):
        digest.update(f"{file.name}:{file_sha256(file)}\n".encode())
    return digest.hexdigest()
