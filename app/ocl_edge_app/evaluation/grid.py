"""Trials of one bundle on one stream, in a file that a killed evaluation goes on from."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ocl_edge import durable
from ocl_edge._version import __version__
from ocl_edge.bundle.manifest import file_sha256
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import UsageError
from ocl_edge.given_files import read_json
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge_app.evaluation.corruption import Corruption
from ocl_edge_app.evaluation.labelled import LabelledFrames, LabelSpace
from ocl_edge_runtime.session.options import SessionOptions

MOST_BYTES = 1 << 30
"""Of a file of results; it holds pictures."""


@dataclass(frozen=True)
class Trial:
    """One pass (or ``rounds`` passes in a row) of one method over one stream.

    Attributes:
        repeat: every frame comes so many times, at so many times the rate.
        settings: what the options come to: defaults may change from version to version.
    """

    options: SessionOptions
    settings: AdaptationDefaults
    corruption: Corruption
    rounds: int
    stream_fps: float | None
    repeat: int = 1

    def key(self, context: str) -> str:
        """Hash of everything that the trial's numbers depend on, where ``options`` name a backend."""
        values = {name: str(value) for name, value in asdict(self).items()}
        return hashlib.sha256(f"{context}|{values}".encode()).hexdigest()[:16]


@dataclass
class Evaluation:
    """Finished trials, in memory and, with a path, on disk after every one.

    Attributes:
        context: hash of bundle, frames and label space.
        facts: what the file says of itself; with ``rows``, once everything is finished.
        path: JSON file, rewritten atomically; None keeps results in memory alone.
        cells: key -> description and one `Result` a round.
    """

    context: str
    facts: dict[str, Any]
    path: Path | None = None
    cells: dict[str, dict[str, Any]] = field(default_factory=dict)

    def resume(self) -> None:
        """Take over the finished trials of the file, if it is of the same evaluation.

        Raises:
            UsageError: the file is of another bundle, other frames or labels, another version of
                ocl-edge, or is no evaluation.
        """
        if self.path is None or not self.path.exists():
            return
        try:
            content = read_json(self.path, MOST_BYTES)
            context, cells = content["context"], content["cells"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{self.path} exists and is no evaluation; name another --json file") from error
        if context != self.context:
            raise UsageError(
                f"{self.path} holds an evaluation of another bundle, other frames or labels, or by "
                "another version of ocl-edge; name another --json file"
            )
        self.cells = cells

    def content(self) -> dict[str, Any]:
        """What the file holds."""
        return {"context": self.context, **self.facts, "cells": self.cells}

    @property
    def unfinished_path(self) -> Path | None:
        """Where the pass that runs is kept."""
        return None if self.path is None else self.path.with_name(f".{self.path.name}.unfinished")

    def save(self) -> None:
        """Write the file durably.

        Raises:
            OutputError: it cannot be written.
        """
        if self.path is not None:
            durable.write_json(self.path, self.content())


def context_of(bundle: Bundle, frames: LabelledFrames, space: LabelSpace) -> str:
    """Hash of what all trials share: this version, the bundle, the label space, every frame and label file.

    Raises:
        UsageError: a file cannot be read.
    """
    shared = hashlib.sha256(f"{__version__}|{bundle.identity}|{space}|{frames.code}|{frames.size}".encode())
    for file in itertools.chain.from_iterable(frames.pairs):
        try:
            shared.update(f"|{file.name}|{file_sha256(file)}".encode())
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    return shared.hexdigest()
