"""What an engine has learned, on disk: written whole or not at all, bound to its bundle.

A state directory holds ``state.safetensors``: tensors, and in the metadata a JSON object and
the sha256 of both.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ocl_edge import durable
from ocl_edge.errors import OutputError, StateError
from ocl_edge_runtime.session.realtime import RealtimeEngine

STATE_FILE = "state.safetensors"
STATE_VERSION = 1


@dataclass(frozen=True)
class Saved:
    """A state as read: tensors by name and everything else."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class StateStore:
    """Saves the state of an engine into a directory, and brings it back.

    Args:
        directory: made if it is not there.
        engine: whose state it is.

    Raises:
        OutputError: the directory cannot be made.
    """

    def __init__(self, directory: Path, engine: RealtimeEngine) -> None:
        self.directory = directory
        self.path = directory / STATE_FILE
        self._engine = engine
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the state directory {directory}: {error.strerror}") from error

    def save(self) -> None:
        """Write the state durably.

        Raises:
            OutputError: it cannot be written; the state that was there stays.
        """
        write_state(self.path, Saved(*self._engine.export_state()))

    def resume(self, damaged: Literal["refuse", "set aside"]) -> str:
        """Bring the saved state back, bit for bit.

        Args:
            damaged: ``refuse`` raises on a damaged or foreign state; ``set aside`` renames
                it and starts from the source weights.

        Returns:
            What was done, in words.

        Raises:
            StateError: there is none, it is damaged, or of another bundle or method.
            OutputError: it cannot be moved aside.
        """
        if damaged == "set aside" and not self.path.exists():
            return "no saved state: source weights"
        try:
            saved = read_state(self.path)
            self._engine.import_state(saved.tensors, saved.facts)
        except StateError as error:
            if damaged == "refuse":
                raise
            aside = self.path.with_name(f"{STATE_FILE}.refused-{time.time_ns()}")
            try:
                self.path.rename(aside)
            except OSError as problem:
                raise OutputError(f"{error}; it cannot be moved aside: {problem.strerror}") from error
            return f"{error}; moved to {aside.name}, source weights"
        return f"resumed after frame {saved.facts['index']}"


def write_state(path: Path, state: Saved) -> None:
    """Write a state durably.

    Raises:
        OutputError: nothing was replaced.
    """
    facts = json.dumps(state.facts, sort_keys=True)
    tensors = {name: tensor.contiguous() for name, tensor in state.tensors.items()}
    content = save(
        tensors, {"facts": facts, "sha256": digest_of(tensors, facts), "version": str(STATE_VERSION)}
    )
    durable.write_bytes(path, content)


def read_state(path: Path) -> Saved:
    """Read and verify a state.

    Raises:
        StateError: missing, damaged, or of another version.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise StateError(f"there is no saved state in {path.parent}; start without --resume") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise StateError(f"{path} is damaged: {error}") from error
    if metadata.get("version") != str(STATE_VERSION):
        raise StateError(f"{path} has state version {metadata.get('version')}, expected {STATE_VERSION}")
    facts = metadata.get("facts", "")
    if digest_of(tensors, facts) != metadata.get("sha256"):
        raise StateError(f"{path} is damaged: its content does not have the sha256 that it names")
    return Saved(tensors, json.loads(facts))


def digest_of(tensors: dict[str, Tensor], facts: str) -> str:
    """sha256 over names, shapes, dtypes and content of all tensors, and the facts."""
    digest = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()
