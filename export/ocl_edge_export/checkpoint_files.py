"""Read the file of a checkpoint without running what is in it; what is none is named as what it is."""

from __future__ import annotations

import pickle
import zipfile
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict
from datetime import datetime, timedelta
from pathlib import Path, PosixPath
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file

from ocl_edge.errors import CheckpointError
from ocl_edge_export.untrusted import weights_of

HEAD_BYTES = 512
MOST_RECORDS = 50_000
"""Tensors of an archive; the largest networks have some thousands."""

MOST_EXPANSION = 10
LEAST_BOUND_BYTES = 64 << 20
"""What any archive may hold when it is unpacked, however small it is."""

NAMED_AT_MOST = 5
ProgramKind = Literal["onnx", "torchscript", "pt2"]
HARMLESS = [Namespace, OrderedDict, Counter, defaultdict, PosixPath, datetime, timedelta]
"""What trainers write beside the weights: settings, times, places. Making one runs nothing."""


class UntrustedPickleError(CheckpointError):
    """What cannot be read without --trust-pickle."""


def load_content(path: Path, trust_pickle: bool, weights_alone: bool = False) -> Any:
    """What ``torch.load`` or safetensors give for a file, on the CPU.

    Numbers of NumPy and the objects of `HARMLESS` are read without trust.

    Args:
        path: the file.
        trust_pickle: whether code in it may run.
        weights_alone: what is trusted runs in a process of its own, from which tensors come back.

    Raises:
        CheckpointError: it is something else than a checkpoint, damaged, or needs trust; the
            objects that need it are named.
    """
    _members(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([*HARMLESS, *_numpy_types()]):
            return torch.load(path, map_location="cpu", weights_only=weights_alone or not trust_pickle)
    except pickle.UnpicklingError as error:
        unsafe = "Weights only load failed" in str(error)
        if unsafe and trust_pickle and weights_alone:
            return weights_of(path)
        if trust_pickle or not unsafe:
            raise CheckpointError(
                f"{path} is damaged or not a PyTorch checkpoint: {_first_line(error)}"
            ) from error
        raise UntrustedPickleError(
            f"{path} {_what_needs_trust(path)}. Loading a pickle runs code from the file. "
            "If you trust its origin: --trust-pickle"
        ) from error
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"{path} holds objects of the module {error.name!r}, which is not installed here: install it, "
            "or save the weights alone where it is: torch.save(network.state_dict(), FILE)"
        ) from error
    except Exception as error:
        raise CheckpointError(
            f"{path} is truncated, damaged or not a checkpoint: {_first_line(error)}"
        ) from error


def refuse_other_formats(path: Path) -> None:
    """Name what a download or a checkout left in place of the file.

    Raises:
        CheckpointError: it is such.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    start = head.lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is a Git LFS pointer, not the file itself: fetch it with git lfs pull")
    if start.startswith((b"<!doctype html", b"<html", b"<?xml")):
        raise CheckpointError(
            f"{path} is a web page (HTML), not a checkpoint: the download gave a login or error page"
        )


def program_of(path: Path) -> ProgramKind | None:
    """Which kind of program a file is; None where it is none.

    Raises:
        CheckpointError: see `_members`.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if path.suffix == ".onnx" or b"pytorch" in head[:24] or b"onnx" in head[:24]:
        return "onnx"
    members = _members(path)
    if "constants.pkl" in members and any(name.startswith("code/") for name in members):
        return "torchscript"
    exported = any(name.endswith(("archive_format", "serialized_exported_program.json")) for name in members)
    return "pt2" if exported else None


def _members(path: Path) -> list[str]:
    """Names of the records of an archive, as PyTorch itself reads it; none where it is no archive.

    Raises:
        CheckpointError: loading them would take much more memory than the file is large.
    """
    if not _begins_as_archive(path):
        return []
    with path.open("rb") as file:
        try:
            archive = torch._C.PyTorchFileReader(file)
        except (OSError, RuntimeError):  # PyTorch says what is wrong when it loads it
            return []
        try:
            names: list[str] = archive.get_all_records()
            sizes = _sizes_of(archive, names, path)
        except (RuntimeError, UnicodeDecodeError, zipfile.BadZipFile) as error:
            raise CheckpointError(f"{path} is damaged: {_first_line(error)}") from error
    if len(names) > MOST_RECORDS:
        raise CheckpointError(f"{path} holds {len(names):,} records, expected at most {MOST_RECORDS:,}")
    most = max(LEAST_BOUND_BYTES, MOST_EXPANSION * path.stat().st_size)
    if sum(sizes) > most:
        raise CheckpointError(
            f"{path} claims {sum(sizes):,} bytes in {path.stat().st_size:,}: it is compressed, which PyTorch "
            f"does not do, and more than {MOST_EXPANSION}-fold; unpack it and save it again if you trust it"
        )
    return names


def _sizes_of(archive: Any, names: list[str], path: Path) -> list[int]:
    """Bytes of each record when it is unpacked."""
    if hasattr(archive, "get_record_size"):
        return [archive.get_record_size(name) for name in names]
    with zipfile.ZipFile(path) as same:  # an older PyTorch does not tell
        return [entry.file_size for entry in same.infolist()]


def _begins_as_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\3\4"


def _what_needs_trust(path: Path) -> str:
    try:
        named = set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # an older archive, or none at all
        named = set()
    known = {f"{t.__module__}.{t.__qualname__}" for t in HARMLESS}
    foreign = sorted(name for name in named - known if not name.startswith("numpy."))
    if not foreign:
        return "holds pickled Python objects or is not a PyTorch checkpoint"
    more = f", and {len(foreign) - NAMED_AT_MOST} more" if len(foreign) > NAMED_AT_MOST else ""
    return f"holds pickled Python objects: {', '.join(foreign[:NAMED_AT_MOST])}{more}"


def _numpy_types() -> list[Any]:
    """What NumPy's numbers and arrays are made of, under the names of both its major versions."""
    made_by: Any = np.array(0.0).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"]
    older = [(function, f"numpy.core.multiarray.{function.__name__}") for function in (made_by, scalar)]
    return [np.dtype, np.ndarray, made_by, scalar, *older, *dtypes]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
