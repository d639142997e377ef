"""What a session has learned, on disk: written whole or not at all, bound to its bundle.

A state directory holds ``state.safetensors``: tensors, and in the metadata a JSON object and
the sha256 of both.
A state of an earlier run that this one does not go on from stays beside it as ``.previous``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ocl_edge import durable
from ocl_edge.errors import OutputError, StateError
from ocl_edge.given_files import parse_json
from ocl_edge.tensor_files import read_tensors_and_metadata, serialise_tensors
from ocl_edge.tensors import Tensor, torch
from ocl_edge_runtime.session.session import Session

STATE_FILE = "state.safetensors"
STATE_VERSION = 1


@dataclass(frozen=True)
class Saved:
    """A state as read: tensors by name and everything else."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class StateStore:
    """Saves the state of a session into a directory, and brings it back.

    Args:
        directory: made if it is not there.
        session: whose state it is.

    Raises:
        OutputError: the directory cannot be made or written.
    """

    def __init__(self, directory: Path, session: Session) -> None:
        self.directory = directory
        self.path = directory / STATE_FILE
        self._session = session
        self._goes_on = False
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory):  # found out before the work, not after it
                pass
        except OSError as error:
            raise OutputError(f"cannot write the state directory {directory}: {error.strerror}") from error

    def save(self) -> None:
        """Write the state durably. The first write keeps a state of another run beside, as ``.previous``.

        Raises:
            OutputError: it cannot be written; the state that was there stays.
        """
        state = Saved(*self._session.export_state())
        if self._goes_on:
            write_state(self.path, state)
            return
        with self._previous_kept():
            write_state(self.path, state)
        self._goes_on = True

    @contextlib.contextmanager
    def _previous_kept(self) -> Iterator[None]:
        """The state that lies there becomes ``.previous`` if the block succeeds, and stays if it does not."""
        aside = self.path.with_name(f".{STATE_FILE}.{secrets.token_hex(8)}.kept")
        try:
            with contextlib.suppress(FileNotFoundError):
                os.link(self.path, aside, follow_symlinks=False)  # the state itself is there all the time
            yield
            with contextlib.suppress(FileNotFoundError):
                aside.replace(self.path.with_name(f"{STATE_FILE}.previous"))
        except OSError as error:
            raise OutputError(f"cannot keep the state of an earlier run beside: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)

    def resume(self, damaged: Literal["refuse", "set aside"]) -> str:
        """Bring the saved state back, bit for bit.

        Args:
            damaged: ``refuse`` raises on a damaged or foreign state; ``set aside`` renames
                it and starts from the trained weights.

        Returns:
            What was done, in words.

        Raises:
            StateError: there is none, it is damaged, or of another bundle or method.
            OutputError: it cannot be moved aside.
        """
        if damaged == "set aside" and not self.path.exists():
            return "no saved state: trained weights"
        try:
            saved = read_state(self.path)
            self._session.import_state(saved.tensors, saved.facts)
            self._goes_on = True
        except StateError as error:
            if damaged == "refuse":
                raise
            aside = self.path.with_name(f"{STATE_FILE}.refused-{time.time_ns()}")
            try:
                self.path.rename(aside)
            except OSError as problem:
                raise OutputError(f"{error}; it cannot be moved aside: {problem.strerror}") from error
            return f"{error}; moved to {aside.name}, trained weights"
        return f"resumed after frame {saved.facts['index']}"


def write_state(path: Path, state: Saved) -> None:
    """Write a state durably.

    Raises:
        OutputError: nothing was replaced.
    """
    facts = json.dumps(state.facts, sort_keys=True)
    tensors = {name: tensor.contiguous() for name, tensor in state.tensors.items()}
    content = serialise_tensors(
        tensors, {"facts": facts, "sha256": digest_of(tensors, facts), "version": str(STATE_VERSION)}
    )
    durable.write_bytes(path, content)


def read_state(path: Path) -> Saved:
    """Read and verify a state.

    Raises:
        StateError: missing, damaged, or of another version.
    """
    try:
        tensors, metadata = read_tensors_and_metadata(path)
    except FileNotFoundError:
        raise StateError(f"there is no saved state in {path.parent}; start without --resume") from None
    except ValueError as error:
        raise StateError(f"{path} is damaged: {error}") from error
    if metadata.get("version") != str(STATE_VERSION):
        raise StateError(f"{path} has state version {metadata.get('version')}, expected {STATE_VERSION}")
    facts = metadata.get("facts", "")
    if digest_of(tensors, facts) != metadata.get("sha256"):
        raise StateError(f"{path} is damaged: its content does not have the sha256 that it names")
    try:
        content = parse_json(facts.encode())
    except ValueError as error:
        raise StateError(f"{path} is damaged: its facts are no JSON: {error}") from error
    if not isinstance(content, dict):
        raise StateError(f"{path} is damaged: its facts are no object")
    return Saved(tensors, content)


def state_digest(session: Session) -> str:
    """Hash of all tensors that the next frame depends on."""
    return digest_of(session.export_state()[0], "")


def digest_of(tensors: dict[str, Tensor], facts: str) -> str:
    """sha256 over names, shapes, dtypes and content of all tensors, and the facts."""
    digest = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        dtype = f"torch.{str(tensor.dtype).removeprefix('torch.')}"  # its name with PyTorch and without
        digest.update(f"{name}{tuple(tensor.shape)}{dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()
