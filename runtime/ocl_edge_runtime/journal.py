"""What happened, a JSON object a line, so that a run can be understood afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from ocl_edge.errors import OutputError
from ocl_edge_runtime.frames import Frame, FrameResult


class Journal:
    """Appends to a JSON-lines file; every line is flushed, so that a crash loses none.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write the journal {path}: {error.strerror}") from error

    def write(self, event: str, **content: Any) -> None:
        """Append one line."""
        try:
            self._file.write(json.dumps({"event": event, **content}) + "\n")
            self._file.flush()
        except OSError as error:
            raise OutputError(f"cannot write the journal {self.path}: {error.strerror}") from error

    def frame(self, frame: Frame, result: FrameResult) -> None:
        """The update of one frame: applied or not, why, and the guard's signals."""
        decision = result.decision.as_dict() if result.decision else None
        self.write(
            "frame",
            index=frame.index,
            name=frame.name,
            adapted=result.adapted,
            reason=result.reason,
            loss=result.loss,
            guard=decision,
        )

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
