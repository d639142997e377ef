"""What an export cannot know by itself, asked for in one message."""

from __future__ import annotations

import shlex
from pathlib import Path

from ocl_edge.errors import CheckpointError, UsageError
from ocl_edge.network import zoo
from ocl_edge_export.checkpoint import Checkpoint, read_checkpoint
from ocl_edge_export.checkpoint_files import UntrustedPickleError

ARCH = "--arch path/to/file.py:function"
SIZE = "--input-size HEIGHTxWIDTH"


def ask_for_what_is_missing(
    path: Path, checkpoint: Checkpoint, arch: str | None, input_size: tuple[int, int] | None
) -> None:
    """Refuse where architecture or input size are neither given, nor said by the checkpoint, nor recognised.

    Raises:
        UsageError: naming everything that is missing, with the command to type.
        UsageError: ``arch`` names no known architecture.
    """
    spec, reason = _spec(checkpoint, arch)
    known = checkpoint.metadata
    has_size = input_size or known.input_size or known.arch or (spec and spec.architecture)
    missing = []
    if reason:
        missing.append((ARCH, reason))
    if not has_size:
        missing.append((SIZE, "the height and width in pixels that it was trained at, for example 512x1024"))
    if missing:
        given = [f"--arch {shlex.quote(arch)}"] if arch else []
        given += [f"--input-size {input_size[0]}x{input_size[1]}"] if input_size else []
        options = " ".join([*given, *(option for option, _ in missing)])
        lines = "\n".join(f"  {option}: {why}" for option, why in missing)
        raise UsageError(
            f"{path} does not say all that an export needs:\n{lines}\n"
            f"Type: ocl-edge export {shlex.quote(str(path))} {options}"
        )


def read_or_ask(
    path: Path,
    trust_pickle: bool,
    input_size: tuple[int, int] | None,
    weights_key: str | None = None,
    arch: str | None = None,
) -> Checkpoint:
    """As `read_checkpoint`; where a pickle must be trusted first, it asks for the size as well.

    Raises:
        CheckpointError: see `read_checkpoint`.
    """
    try:
        return read_checkpoint(path, trust_pickle, weights_key, input_size, weights_alone=arch is not None)
    except UntrustedPickleError as error:
        if input_size:
            raise
        raise CheckpointError(f"{error}, and as a pickled network does not say its size: {SIZE}") from error


def _spec(checkpoint: Checkpoint, arch: str | None) -> tuple[zoo.Spec | None, str]:
    """The architecture, or why it is not known. A pickled module is its own: neither."""
    if arch:
        return zoo.parse_spec(arch), ""
    if checkpoint.metadata.arch:
        return None, ""  # whoever loads the network says whether a file may name it
    if checkpoint.module is not None:
        return None, ""
    try:
        return zoo.recognise(checkpoint.shapes), ""
    except CheckpointError as error:
        return None, str(error).partition(" Name it")[0]
