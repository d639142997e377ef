"""A checkpoint where a bundle is expected, and the other way round: said by name, with the right command."""

from __future__ import annotations

import shlex
from pathlib import Path

from ocl_edge.bundle.manifest import MANIFEST

CHECKPOINTS = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".tar", ".onnx", ".pt2")
ENGINES = (".engine", ".plan", ".trt")
BUNDLE_SUFFIX = ".ocl"


def instead_of_bundle(path: Path) -> str:
    """What a path is that is no bundle, and what to type."""
    if is_bundle(path.parent) and path.exists():
        return f"{path} is a file of a bundle; give its directory: {quoted(path.parent)}"
    if not path.exists():
        missing = f"there is no bundle {path}; make one with: ocl-edge export CHECKPOINT"
        return missing if path.suffix in CHECKPOINTS else f"{missing} --out {quoted(path)}"
    if path.is_dir():
        return f"{path} is not a bundle: it holds no {MANIFEST}; make one with: ocl-edge export CHECKPOINT"
    if path.suffix in CHECKPOINTS:
        made = Path(path.name).with_suffix(BUNDLE_SUFFIX)
        return f"{path} is a checkpoint, not a bundle; make one of it, {made}: ocl-edge export {quoted(path)}"
    return _no_checkpoint(path) or f"{path} is not a bundle: a bundle is a directory that export wrote"


def instead_of_checkpoint(path: Path) -> str | None:
    """What a path is that is surely no checkpoint, and what to type; None where it may be one."""
    if not path.exists():
        return f"there is no checkpoint {path}"
    if is_bundle(path):
        return f"{path} is a bundle already; run it: ocl-edge run {quoted(path)} --source DIR"
    if path.is_dir():
        return f"{path} is a directory; expected the file of a checkpoint, for example model.pth"
    return _no_checkpoint(path)


def is_bundle(path: Path) -> bool:
    return (path / MANIFEST).is_file()


def quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _no_checkpoint(path: Path) -> str | None:
    if path.suffix in ENGINES:
        return (
            f"{path} is a compiled engine; ocl-edge builds its own: "
            "ocl-edge export CHECKPOINT, then ocl-edge build BUNDLE"
        )
    return None
