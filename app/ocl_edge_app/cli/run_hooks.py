"""What ``ocl-edge run`` does beside each frame: journal, state, tape, report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocl_edge.bundle.reading import Bundle
    from ocl_edge_app.report.recorder import RunRecorder
    from ocl_edge_runtime.records.run_records import RunRecords
    from ocl_edge_runtime.records.tape import Tape
    from ocl_edge_runtime.service import Service
    from ocl_edge_runtime.session.frames import Frame, FrameResult
    from ocl_edge_runtime.session.options import OpeningKind, SessionOptions
    from ocl_edge_runtime.session.session import Session
    from ocl_edge_runtime.sources import Source, SourceOptions


def open_frames(text: str, options: SourceOptions, tape: Tape | None, recorder: RunRecorder | None) -> Source:
    """The source of a run: of a replay only the frames that the tape names."""
    from ocl_edge_app.cli.output import note
    from ocl_edge_runtime.clock import RealClock
    from ocl_edge_runtime.sources import open_source
    from ocl_edge_runtime.sources.chosen import ChosenFrames

    frames = open_source(text, options, RealClock(), on_skip(recorder), note)
    return ChosenFrames(frames, list(tape.frames), tape.path) if tape else frames


def opening_and_pace(
    wanted: OpeningKind | None, frames: Source, tape: Tape | None
) -> tuple[OpeningKind, float | None]:
    """The opening of a run and the stream time of its frames: as asked, else as on the tape."""
    from ocl_edge_app.cli.options import opening_or_auto

    if tape:
        return tape.opening if wanted is None else wanted, tape.frame_s
    return opening_or_auto(wanted), frames.frame_s


@contextmanager
def records(
    session: Session, journal: Path | None, state: Path | None, save_every: float, resume: str
) -> Iterator[RunRecords]:
    """Journal and state, kept up to date by what is yielded; the state is saved at exit, after errors too."""
    from ocl_edge.errors import OutputError
    from ocl_edge_app.cli.output import note
    from ocl_edge_runtime.records.journal import Journal
    from ocl_edge_runtime.records.run_records import RunRecords
    from ocl_edge_runtime.records.state import StateStore

    with ExitStack() as stack:
        log = stack.enter_context(Journal(journal)) if journal else None
        store = StateStore(state, session) if state else None
        if store and resume != "no":
            done = store.resume("set aside" if resume == "auto" else "refuse")
            note(done)
            if log:
                log.write("resume", result=done)
        kept = RunRecords(log, store, save_every, note)
        try:
            yield kept
        except Exception:
            with suppress(OutputError):  # the error before is the one to tell
                kept.finish()
            raise
        kept.finish()


@contextmanager
def taped(
    session: Session, record: Path | None, tape: Tape | None
) -> Iterator[Callable[[Frame, FrameResult], None]]:
    """Record or replay a run: what to call after each frame; the end is compared at exit.

    A recording that cannot be written ends; the run goes on.
    """
    from ocl_edge.errors import OutputError
    from ocl_edge_app.cli.output import note
    from ocl_edge_runtime.records.tape import TapeWriter

    with ExitStack() as stack:
        replay = tape.play_in(session) if tape else None
        writer = stack.enter_context(TapeWriter(record, session)) if record else None

        def tried(write: Callable[[], None]) -> None:
            try:
                write()
            except OutputError as error:
                note(f"{error}; the run goes on, the recording is cut off there")

        yield lambda frame, result: tried(lambda: writer.frame(frame, result)) if writer else None
        if writer:
            tried(writer.finish)
        if replay:
            note(replay.check_end())


def tell(bundles: Iterable[Bundle], options: SessionOptions, session: Session) -> None:
    """What the user should know before the first frame."""
    from ocl_edge_app.cli.output import note
    from ocl_edge_runtime.session.setup import notes_on

    for words in dict.fromkeys(words for bundle in bundles for words in notes_on(bundle, options)):
        note(words)
    for backend_name, reason in session.setup.passed_over.items():
        note(f"backend {backend_name} passed over: {reason}")


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
    records: RunRecords,
    taped: Callable[[Frame, FrameResult], None],
    progress: Callable[[str], None],
    service: Service,
    watched: Callable[[Frame, FrameResult], None],
) -> Callable[[Frame, FrameResult], None]:
    from ocl_edge.timings import mask_latency_ms

    frames = 0

    def each(frame: Frame, result: FrameResult) -> None:
        nonlocal frames
        records.after_frame(frame, result)
        taped(frame, result)
        watched(frame, result)
        frames += 1
        service.alive(frames)
        progress(f"{mask_latency_ms(result.timings_ms):.0f} ms")

    return each
