"""What happened, a JSON object a line, so that a run can be understood afterwards."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from ocl_edge import durable
from ocl_edge.errors import OutputError
from ocl_edge.finite import finite
from ocl_edge.method.verdict import Verdict, words_of_guard
from ocl_edge_runtime.session.frames import Frame, FrameResult, Landed
from ocl_edge_runtime.sinks.names import file_name

LARGEST_BYTES = 64_000_000
"""Seven hours at ten frames a second."""

OLDER_FILES = 3


class Journal:
    """Appends to a JSON-lines file; every line is handed to the system, so that a crash loses none.

    A file that is full becomes ``PATH.1``, the one before ``PATH.2``, and so on; the oldest
    goes. A line that a crash or a full disk cut off is ended before the next one. Numbers that
    are not finite become null.

    Args:
        path: appended to, if it is there.
        largest_bytes: of one file.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path, largest_bytes: int = LARGEST_BYTES) -> None:
        self.path = path
        self.largest_bytes = largest_bytes
        try:
            self._file = durable.open_for_lines(path, append=True)
            self._is_regular = path.is_file()
            self._bytes = path.stat().st_size if self._is_regular else 0
            self._cut_off = self._bytes > 0 and not _ends_with_a_line(path)
        except OSError as error:
            raise self._cannot_write(error) from error

    def write(self, event: str, **content: Any) -> None:
        """Append one line.

        Raises:
            OutputError: it is lost; later ones may succeed.
        """
        line = json.dumps(finite({"event": event, **content}), allow_nan=False).encode() + b"\n"
        try:
            if self._is_regular and 0 < self._bytes > self.largest_bytes - len(line):
                self._begin_new_file()
            if self._cut_off:
                line = b"\n" + line
            written = self._file.write(line)
        except OSError as error:
            raise self._cannot_write(error) from error
        self._bytes += written
        self._cut_off = written < len(line)
        if self._cut_off:
            raise OutputError(f"cannot write the journal {self.path}: the disk is full, a line was cut off")

    def frame(self, frame: Frame, result: FrameResult) -> None:
        """One frame: how far open, how far from home; its update: applied or not, why, and the signals."""
        if result.background is not None:
            self.background(result.background)
        home = {"opening": result.opening, "distance": result.distance}
        written = file_name(frame.name)
        renamed = {} if written.startswith(frame.name) else {"written_as": written}
        self.write("frame", index=frame.index, name=frame.name, **renamed, **home, **_entry(result.verdict))

    def background(self, landed: Landed) -> None:
        """An update that was taken in before the next frame, ``behind`` frames after its own."""
        self.write("background update", behind=landed.behind, **_entry(landed.verdict))

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _begin_new_file(self) -> None:
        names = [self.path, *(Path(f"{self.path}.{n + 1}") for n in range(OLDER_FILES))]
        if self.path.exists():  # else an earlier try has moved them, and could not open a new one
            for newer, older in zip(names[-2::-1], names[:0:-1], strict=True):
                if newer.exists():
                    newer.replace(older)
        full, self._file = self._file, durable.open_for_lines(self.path, append=True)
        full.close()
        self._bytes, self._cut_off = 0, False

    def _cannot_write(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write the journal {self.path}: {error.strerror}")


def _entry(verdict: Verdict) -> dict[str, Any]:
    """What the journal says of an update."""
    guard = None
    if verdict.judged:
        action = "commit" if verdict.applied else verdict.reason.value
        signals = verdict.signals and asdict(verdict.signals)
        guard = {"action": action, "reason": words_of_guard(verdict), "signals": signals}
    return {"adapted": verdict.applied, "reason": str(verdict), "loss": verdict.loss, "guard": guard}


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
