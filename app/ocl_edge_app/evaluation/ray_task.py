"""What a task of a Ray cluster does: one pass, on what is found to be the same as where it was planned."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from ocl_edge import durable
from ocl_edge._version import __version__
from ocl_edge.bundle.manifest import MANIFEST
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BundleError, ClusterError, FrameError, OclEdgeError, UsageError
from ocl_edge.tensors import torch
from ocl_edge.user_cache import writable_place
from ocl_edge_app.evaluation.grid import Trial, context_of
from ocl_edge_app.evaluation.labelled import LabelledFrames, LabelSpace
from ocl_edge_app.evaluation.passes import Scored, cell_of
from ocl_edge_app.evaluation.ray_cluster import ray_library
from ocl_edge_app.evaluation.what_is_scored import Named, find_pairs

COMPUTING = ("torch", "numpy", "pillow", "imagecorruptions-imaug", "openvino", "onnxruntime")

Versions = dict[str, str | None]


@dataclass(frozen=True)
class Job:
    """One pass, as it travels to a node.

    Attributes:
        trial: what runs.
        identity: of the bundle.
        bundle: a reference to its files, name -> bytes, in a list so that only who needs them fetches them.
        named: the frames.
        frames: how they are read, without their files.
        space: their classes.
        context: hash of all this, of every frame and label and of the version, where the results are kept.
        versions: of `COMPUTING`, there.
    """

    trial: Trial
    identity: str
    bundle: list[Any]
    named: Named
    frames: LabelledFrames
    space: LabelSpace
    context: str
    versions: Versions


@dataclass(frozen=True)
class Done:
    """What comes back: a cell, or why there is none.

    Attributes:
        cell: see `cell_of`.
        skipped: frames that could not be read -> why.
        refused: why there is no cell.
        usage: it was asked for wrongly.
    """

    cell: dict[str, Any] | None
    skipped: dict[Path, str]
    refused: str = ""
    usage: bool = False


def run_job(job: Job) -> Done:
    """Run one pass, on a node; what `ocl_edge.errors` has words for is part of the result."""
    skipped: dict[Path, str] = {}

    def on_skip(file: Path, error: FrameError) -> None:
        skipped[file] = str(error)

    try:
        _check_versions(job.versions)
        torch.set_num_threads(job.trial.options.threads or 1)
        bundle = _bundle_of(job)
        frames = replace(job.frames, pairs=find_pairs(job.named))
        if context_of(bundle, frames, job.space) != job.context:
            raise UsageError("frames or labels are others there: every node must find the same files")
        scored = Scored(bundle, job.named, frames, job.space)
        cell = cell_of(scored, job.trial, on_skip=on_skip)
    except OclEdgeError as error:
        return Done(None, skipped, f"on node {socket.gethostname()}: {error}", isinstance(error, UsageError))
    return Done(cell, skipped)


def versions_here() -> Versions:
    """Of every package whose version may change a number; None where it is not installed."""
    return {"ocl-edge": __version__, **{name: _version(name) for name in COMPUTING}}


def packed(bundle: Bundle) -> dict[str, bytes]:
    """The files that a bundle's manifest lists, and the manifest last: name -> content.

    Raises:
        BundleError: a file is missing.
    """
    files = {name: bundle.file(name).read_bytes() for name in bundle.manifest.files}
    return {**files, MANIFEST: (bundle.path / MANIFEST).read_bytes()}


def unpacked(files: dict[str, bytes], place: Path) -> None:
    """Write a bundle's files; whoever reads there meanwhile finds each whole.

    Raises:
        OutputError: they cannot be written.
    """
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        durable.write_bytes(place / name, content, durable=False)


def _bundle_of(job: Job) -> Bundle:
    """The bundle in this user's cache on this node; what is not there yet, or is damaged, is fetched."""
    place = writable_place("sweeps", job.identity[:24])
    if place is None:
        raise ClusterError("the user's cache directory cannot be written: set XDG_CACHE_HOME")
    with contextlib.suppress(BundleError):
        if (bundle := Bundle.open(place)).identity == job.identity:
            return bundle
    unpacked(ray_library().get(job.bundle[0]), place)
    bundle = Bundle.open(place)
    if bundle.identity != job.identity:
        raise BundleError(f"{place} is another bundle than was sent: remove it")
    return bundle


def _check_versions(wanted: Versions) -> None:
    here = versions_here()
    other = [
        f"{name} {found or 'missing'} (expected {wanted[name] or 'none'})"
        for name, found in here.items()
        if found != wanted[name]
    ]
    if other:
        raise ClusterError(
            f"other versions compute other numbers: {', '.join(other)}; install the same, or take the node "
            "out of the cluster"
        )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
