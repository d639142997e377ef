"""A run on tape: everything that time decided, so that the run can be played again.

The tape is the file of ``--record-schedule``, JSON lines. The first says what ran and hashes the state
that the run began with; then one line a frame; the last hashes the state at the end. Given the same
frames, the same bundle and the same options, everything else follows from it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ocl_edge import durable
from ocl_edge.errors import OutputError, StateError, UsageError
from ocl_edge.given_files import parse_json, read_given, reason_of
from ocl_edge.plain_text import first_problem
from ocl_edge_runtime.records.state import state_digest
from ocl_edge_runtime.session.decisions import FromTape
from ocl_edge_runtime.session.frames import Decided, Frame, FrameResult
from ocl_edge_runtime.session.options import OpeningKind, SessionOptions
from ocl_edge_runtime.session.session import Session

TAPE_VERSION = 1
ALWAYS_OPEN = 1.0
"""The opening of a tape that does not name it: it is older."""

MOST_BYTES = 1 << 30


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Moments(_Line):
    measured_at: float | None = None
    followed_at: float | None = None
    learned_at: float | None = None
    looked_across_at: float | None = None


class _Beginning(_Line):
    version: int
    run: dict[str, Any]
    measured_at: float | None = None
    """In older tapes, instead of ``moments``."""
    moments: _Moments | None = None
    begins_with: str


class _Frame(_Line):
    frame: int = Field(ge=0, le=1 << 53)
    arrived_at: float
    measured: bool
    granted: bool
    taken_in: bool
    twice: bool = False
    """Older tapes do not say it: their frames were looked at once."""


class _End(_Line):
    ends_with: str


class TapeWriter:
    """Writes the tape of a run, a line a frame.

    A line that cannot be written ends the recording: the whole lines before it stay, without the
    last one that says where the run ended, and later calls write nothing.

    Args:
        path: replaced if it is there.
        session: just before its first frame.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path, session: Session) -> None:
        self.path = path
        self._session = session
        self._bytes = 0
        self._cut_off = False
        try:
            self._file = durable.open_for_lines(path, append=False)
        except OSError as error:
            raise OutputError(f"cannot write the schedule {path}: {error.strerror}") from error
        self._write(
            {
                "version": TAPE_VERSION,
                "run": session.setup.what_decides(),
                "moments": session.learned.moments,
                "begins_with": state_digest(session),
            }
        )

    def frame(self, frame: Frame, result: FrameResult) -> None:
        """Append one frame.

        Raises:
            OutputError: it cannot be written; the recording ends here.
        """
        if result.decided is not None:
            self._write({"frame": frame.index, **asdict(result.decided)})

    def finish(self) -> None:
        """The last line; the session has settled.

        Raises:
            OutputError: it cannot be written.
        """
        self._write({"ends_with": state_digest(self._session)})

    def __enter__(self) -> TapeWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _write(self, content: dict[str, Any]) -> None:
        if self._cut_off:
            return
        line = json.dumps(content).encode() + b"\n"
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._cut_off = True
            with contextlib.suppress(OSError):
                self._file.truncate(self._bytes)
            raise OutputError(f"cannot write the schedule {self.path}: {error.strerror}") from error
        self._bytes += len(line)


@dataclass(frozen=True)
class Tape:
    """A tape as read.

    Attributes:
        path: of the file.
        run: what the decisions depended on, as `Setup.what_decides`.
        moments: of the state that the run began with, on the recorded clock.
        begins_with: hash of the state before the first frame.
        frames: index in the source -> what was decided, in order.
        ends_with: hash of the state at the end; None where the recording was cut off.
    """

    path: Path
    run: dict[str, Any]
    moments: dict[str, float | None]
    begins_with: str
    frames: dict[int, Decided]
    ends_with: str | None

    @property
    def opening(self) -> OpeningKind:
        """That it ran with; `Tape.play_in` compares it with what the session runs."""
        opening = self.run["opening"]
        return opening if opening == "auto" else float(opening)

    @property
    def frame_s(self) -> float | None:
        """Likewise; see `SessionOptions`."""
        frame_s = self.run.get("frame_s")
        return None if frame_s is None else float(frame_s)

    @classmethod
    def read(cls, path: Path) -> Tape:
        """Raises `UsageError` where there is no file, `StateError` where it is no tape."""
        try:
            lines = [parse_json(line) for line in read_given(path, MOST_BYTES).splitlines()]
            head, *rest = lines
            version = head.get("version")
            if version != TAPE_VERSION:
                raise StateError(f"{path} has version {version}, expected {TAPE_VERSION}")
            begun = _Beginning.model_validate(head)
            taken = [_Frame.model_validate(line) for line in rest if "frame" in line]
            frames = {line.frame: Decided(**line.model_dump(exclude={"frame"})) for line in taken}
            ended = _End.model_validate(lines[-1]).ends_with if "ends_with" in lines[-1] else None
            run = {"opening": ALWAYS_OPEN, **begun.run}
            SessionOptions(opening=run["opening"], frame_s=run.get("frame_s"))  # refuses what is neither
            moments = begun.moments or _Moments(measured_at=begun.measured_at)
            return cls(path, run, moments.model_dump(), begun.begins_with, frames, ended)
        except OSError as error:
            raise UsageError(f"cannot read the schedule {path}: {reason_of(error)}") from error
        except (ValueError, AttributeError, TypeError) as error:  # pydantic's is a ValueError
            said = first_problem(error) if isinstance(error, ValidationError) else str(error)
            raise StateError(f"{path} is no schedule, or was cut off within a line: {said}") from error

    def play_in(self, session: Session) -> Replay:
        """Make a session follow this tape.

        Raises:
            StateError: it runs something else, or has learned something else.
        """
        ours = session.setup.what_decides()
        for name in {**self.run, **ours}:
            recorded, found = self.run.get(name), ours.get(name)
            if recorded != found:
                raise StateError(f"{self.path} was recorded with {name} {recorded}, this run has {found}")
        if state_digest(session) != self.begins_with:
            raise StateError(
                f"{self.path} was recorded from another state: --resume from a copy of that one, same --seed"
            )
        session.learned.moments = self.moments
        return Replay(self, session, session.follow(self.frames.values()))


@dataclass(frozen=True)
class Replay:
    """A session that follows a tape.

    Attributes:
        tape: it.
        session: see `Tape.play_in`.
        decisions: that the session takes from the tape.
    """

    tape: Tape
    session: Session
    decisions: FromTape

    def check_end(self) -> str:
        """Compare the state of the session with the recorded one, if the tape came to its end.

        Returns:
            What was found, in words.

        Raises:
            StateError: another state than the recorded one.
        """
        tape, left = self.tape, self.decisions.frames_left
        if left:
            return f"stopped {left} frames before the end of the schedule: nothing to compare"
        if tape.ends_with is None:
            return f"replayed {len(tape.frames)} frames; the recording was cut off and has no end to compare"
        if state_digest(self.session) != tape.ends_with:
            raise StateError(
                f"the replay of {tape.path} ended in another state: other frames, libraries or processor?"
            )
        return f"replayed {len(tape.frames)} frames: same state as recorded, bit for bit"
