"""What ``ocl-edge run`` does beside each frame: journal, state, schedule, report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocl_edge_app.report.recorder import RunRecorder
    from ocl_edge_runtime.records.keeper import Keeper
    from ocl_edge_runtime.session.engine import Engine
    from ocl_edge_runtime.session.frames import Frame, FrameResult
    from ocl_edge_runtime.session.schedule import RecordedSchedule


@contextmanager
def keeping(
    engine: Engine, journal: Path | None, state: Path | None, save_every: float, resume: str
) -> Iterator[Keeper]:
    """Journal and state, kept up to date by what is yielded; the state is saved at exit, after errors too."""
    from ocl_edge.errors import OutputError
    from ocl_edge_app.cli.output import note
    from ocl_edge_runtime.records.journal import Journal
    from ocl_edge_runtime.records.keeper import Keeper
    from ocl_edge_runtime.records.state import StateStore
    from ocl_edge_runtime.session.realtime import RealtimeEngine

    with ExitStack() as stack:
        log = stack.enter_context(Journal(journal)) if journal else None
        store = StateStore(state, engine) if state and isinstance(engine, RealtimeEngine) else None
        if store and resume != "no":
            done = store.resume("set aside" if resume == "auto" else "refuse")
            note(done)
            if log:
                log.write("resume", result=done)
        keeper = Keeper(log, store, save_every, note)
        try:
            yield keeper
        except Exception:
            with suppress(OutputError):  # the error before is the one to tell
                keeper.finish()
            raise
        keeper.finish()


@contextmanager
def scheduled(
    engine: Engine, record: Path | None, played: RecordedSchedule | None
) -> Iterator[Callable[[Frame, FrameResult], None]]:
    """Record or replay a schedule: what to call after each frame; the end is compared at exit.

    A recording that cannot be written ends; the run goes on.
    """
    from ocl_edge.errors import OutputError
    from ocl_edge_app.cli.output import note
    from ocl_edge_runtime.session.realtime import RealtimeEngine
    from ocl_edge_runtime.session.schedule import ScheduleRecorder

    if not isinstance(engine, RealtimeEngine) or not (record or played):
        yield lambda _frame, _result: None
        return
    with ExitStack() as stack:
        if played:
            played.prepare(engine)
        recorder = stack.enter_context(ScheduleRecorder(record, engine)) if record else None

        def tried(write: Callable[[], None]) -> None:
            try:
                write()
            except OutputError as error:
                note(f"{error}; the run goes on, the recording is cut off there")

        yield lambda frame, result: tried(lambda: recorder.frame(frame, result)) if recorder else None
        if recorder:
            tried(recorder.finish)
        if played:
            note(played.check_end(engine))


def recorder(html_path: Path | None) -> RunRecorder | None:
    if html_path is None:
        return None
    from ocl_edge_app.report.recorder import RunRecorder

    return RunRecorder()


def on_skip(recorder: RunRecorder | None) -> Callable[[str, str], None]:
    from ocl_edge_app.cli.output import note

    def skipped(name: str, reason: str) -> None:
        note(f"skipped {name}: {reason}")
        if recorder:
            recorder.skip(name, reason)

    return skipped


def each_frame(
    keeper: Keeper,
    scheduled: Callable[[Frame, FrameResult], None],
    progress: Callable[[str], None],
    recorder: RunRecorder | None,
) -> Callable[[Frame, FrameResult], None]:
    from ocl_edge.timings import mask_latency_ms

    def each(frame: Frame, result: FrameResult) -> None:
        keeper.after_frame(frame, result)
        scheduled(frame, result)
        if recorder:
            recorder.frame(frame, result)
        progress(f"{mask_latency_ms(result.timings_ms):.0f} ms")

    return each
