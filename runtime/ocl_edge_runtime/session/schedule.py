"""A run's schedule on disk: everything that time decided, so that the run can be played again.

JSON lines. The first says what ran and hashes the state that the run began with; then one
line a frame; the last hashes the state at the end. Given the same frames, the same bundle and
the same options, everything else follows from it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ocl_edge.errors import OutputError, StateError, UsageError
from ocl_edge_runtime.records.state import digest_of
from ocl_edge_runtime.session.frames import Frame, FrameResult, FrameSchedule
from ocl_edge_runtime.session.realtime import RealtimeEngine
from ocl_edge_runtime.sources import Source
from ocl_edge_runtime.sources.live import LiveSource

SCHEDULE_VERSION = 1


class ScheduleRecorder:
    """Writes the schedule of a run, a line a frame.

    A line that cannot be written ends the recording: the whole lines before it stay, without the
    last one that says where the run ended, and later calls write nothing.

    Args:
        path: replaced if it is there.
        engine: just before its first frame.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path, engine: RealtimeEngine) -> None:
        self.path = path
        self._engine = engine
        self._bytes = 0
        self._cut_off = False
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise OutputError(f"cannot write the schedule {path}: {error.strerror}") from error
        self._write(
            {
                "version": SCHEDULE_VERSION,
                "run": engine.what_decides(),
                "measured_at": engine.norms.running.measured_at,
                "begins_with": state_digest(engine),
            }
        )

    def frame(self, frame: Frame, result: FrameResult) -> None:
        """Append one frame.

        Raises:
            OutputError: it cannot be written; the recording ends here.
        """
        if result.schedule is not None:
            self._write({"frame": frame.index, **asdict(result.schedule)})

    def finish(self) -> None:
        """The last line; the engine has settled.

        Raises:
            OutputError: it cannot be written.
        """
        self._write({"ends_with": state_digest(self._engine)})

    def __enter__(self) -> ScheduleRecorder:
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
class RecordedSchedule:
    """A schedule as read.

    Attributes:
        path: of the file.
        run: what the decisions depended on, as `RealtimeEngine.what_decides`.
        measured_at: of the statistics that the run began with, on the recorded clock.
        begins_with: hash of the state before the first frame.
        frames: index in the source -> what was decided, in order.
        ends_with: hash of the state at the end; None where the recording was cut off.
    """

    path: Path
    run: dict[str, Any]
    measured_at: float | None
    begins_with: str
    frames: dict[int, FrameSchedule]
    ends_with: str | None

    @classmethod
    def read(cls, path: Path) -> RecordedSchedule:
        """Raises `UsageError` where there is no file, `StateError` where it is no schedule."""
        try:
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            head, last = lines[0], lines[-1]
            if head["version"] != SCHEDULE_VERSION:
                raise StateError(f"{path} has version {head['version']}, expected {SCHEDULE_VERSION}")
            frames = {line.pop("frame"): FrameSchedule(**line) for line in lines if "frame" in line}
            return cls(
                path, head["run"], head["measured_at"], head["begins_with"], frames, last.get("ends_with")
            )
        except OSError as error:
            raise UsageError(f"cannot read the schedule {path}: {error.strerror}") from error
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise StateError(f"{path} is no schedule, or was cut off within a line: {error!r}") from error

    def prepare(self, engine: RealtimeEngine) -> None:
        """Make an engine follow this schedule.

        Raises:
            StateError: it runs something else, or has learned something else.
        """
        ours = engine.what_decides()
        for name in {**self.run, **ours}:
            recorded, found = self.run.get(name), ours.get(name)
            if recorded != found:
                raise StateError(f"{self.path} was recorded with {name} {recorded}, this run has {found}")
        if state_digest(engine) != self.begins_with:
            raise StateError(
                f"{self.path} was recorded from another state: --resume from a copy of that one, same --seed"
            )
        engine.norms.running.measured_at = self.measured_at
        engine.follow(self.frames.values())

    def check_end(self, engine: RealtimeEngine) -> str:
        """Compare the state of an engine that has replayed the schedule, if it came to its end.

        Returns:
            What was found, in words.

        Raises:
            StateError: another state than the recorded one.
        """
        if engine.plans_left:
            return f"stopped {engine.plans_left} frames before the end of the schedule: nothing to compare"
        if self.ends_with is None:
            return f"replayed {len(self.frames)} frames; the recording was cut off and has no end to compare"
        if state_digest(engine) != self.ends_with:
            raise StateError(
                f"the replay of {self.path} ended in another state: other frames, libraries or processor?"
            )
        return f"replayed {len(self.frames)} frames: same state as recorded, bit for bit"


class ScheduledSource(Source):
    """The frames of a source that a schedule names, as fast as they can be read.

    Args:
        source: of files, unpaced.
        schedule: to follow.

    Raises:
        UsageError: a camera or stream, whose frames are gone.
    """

    def __init__(self, source: Source, schedule: RecordedSchedule) -> None:
        if isinstance(source, LiveSource):
            raise UsageError(f"the frames of {source.name} are gone; a replay needs them as files")
        super().__init__(source.on_skip)
        self.total = len(schedule.frames)
        self.files = source.files
        self._source = source
        self._schedule = schedule

    def __iter__(self) -> Iterator[Frame]:
        left = list(self._schedule.frames)[::-1]
        for frame in self._source:
            if self.stopped or not left:
                return
            if frame.index == left[-1]:
                left.pop()
                yield frame
        if left:
            raise StateError(f"{self._schedule.path} names frame {left[-1]}, which the source does not have")


def state_digest(engine: RealtimeEngine) -> str:
    """Hash of all tensors that the next frame depends on."""
    return digest_of(engine.export_state()[0], "")
