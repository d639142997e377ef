"""Journal and state of a run on disks that fill up, fail, and come back."""

from __future__ import annotations

import errno
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ocl_edge import durable
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import OutputError
from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge_app.cli import run
from ocl_edge_app.cli.run_hooks import records
from ocl_edge_runtime.records.journal import OLDER_FILES, Journal
from ocl_edge_runtime.records.run_records import RunRecords
from ocl_edge_runtime.records.state import STATE_FILE, StateStore, read_state
from ocl_edge_runtime.records.tape import Tape, TapeWriter
from ocl_edge_runtime.session.frames import Frame, FrameResult
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import SessionOptions
from tests.doubles.clock import SimulatedClock
from tests.doubles.images import random_image
from tests.doubles.sessions import ANY

FRAME = Frame(np.zeros((2, 2, 3), np.uint8), 0, "a", 0.0)
RESULT = FrameResult(np.zeros((2, 2), np.uint8), Verdict(Reason.ADAPTED, 1.0))


def lines_of(path: Path) -> list[dict[str, object]]:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text("utf-8").splitlines() if line]


def test_a_journal_keeps_the_newest_lines_in_bounded_space(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path, 1000) as journal:
        for number in range(500):
            journal.write("frame", number=number)
    files = [path, *(Path(f"{path}.{n + 1}") for n in range(OLDER_FILES))]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert all(file.stat().st_size <= 1000 for file in files)
    kept = [line["number"] for file in reversed(files) for line in lines_of(file)]
    assert kept == list(range(500 - len(kept), 500))
    assert len(kept) > 3 * 1000 // len('{"event": "frame", "number": 499}\n')


def test_a_journal_goes_on_after_a_line_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text('{"event": "frame"}\n{"event": "fra')
    with Journal(path) as journal:
        journal.write("resume")
    with Journal(path) as journal:
        journal.write("frame")
    assert path.read_text("utf-8").splitlines() == [
        '{"event": "frame"}',
        '{"event": "fra',
        '{"event": "resume"}',
        '{"event": "frame"}',
    ]


def test_a_new_file_that_cannot_be_opened_costs_no_older_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "run.jsonl"
    with Journal(path, 100) as journal:
        for number in range(9):
            journal.write("frame", number=number)
        before = [file.read_text("utf-8") for file in (path, Path(f"{path}.1"), Path(f"{path}.2"))]
        with monkeypatch.context() as patch:
            patch.setattr(durable, "open_for_lines", refuse)
            for number in range(20):
                with pytest.raises(OutputError, match="No space left"):
                    journal.write("frame", number=number)
        journal.write("frame", number=99)
    after = [Path(f"{path}.{n}").read_text("utf-8") for n in (1, 2, 3)]
    assert after == before
    assert [line["number"] for line in lines_of(path)] == [99]


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    with Journal(tmp_path / "run.jsonl") as journal:
        journal.frame(FRAME, replace(RESULT, verdict=Verdict(Reason.ADAPTED, math.nan)))
    assert lines_of(tmp_path / "run.jsonl")[0]["loss"] is None


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with Journal(Path("/dev/full")) as journal, pytest.raises(OutputError, match="No space left on device"):
        journal.write("frame")


class FullDisk:
    """A file that takes some bytes, and then no more."""

    def __init__(self, path: Path, room: int) -> None:
        self.file = path.open("ab", buffering=0)
        self.room = room

    def write(self, line: bytes) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self.file.write(line[: self.room])
        self.room -= written
        return written

    def truncate(self, size: int) -> None:
        self.file.truncate(size)

    def close(self) -> None:
        self.file.close()


def test_lost_lines_are_counted_said_once_and_the_journal_goes_on(tmp_path: Path) -> None:
    path, said = tmp_path / "run.jsonl", []
    with Journal(path) as journal:
        kept = RunRecords(journal, None, 0.0, said.append)
        disk = journal._file = FullDisk(path, 200)  # type: ignore[assignment]
        for number in range(5):
            kept.after_frame(replace(FRAME, index=number), RESULT)
        disk.room = 10_000
        kept.after_frame(replace(FRAME, index=5), RESULT)
        kept.finish()
    lines = path.read_text("utf-8").splitlines()
    assert [json.loads(lines[i])["index"] for i in (0, -1)] == [0, 5]
    assert len(lines) == 3  # the second one was cut off
    assert kept.lost_lines == 4
    assert [words.partition(":")[0] for words in said] == [
        f"cannot write the journal {path}",
        "the journal can be written again",
        "the journal lacks 4 lines that could not be written",
    ]


def test_a_state_that_cannot_be_saved_costs_no_frame(small_bundle: Bundle, tmp_path: Path) -> None:
    clock, said = SimulatedClock(), []
    session = open_session(small_bundle, SessionOptions(prior=0.8, lr=0.01, opening=1.0), ANY, clock)
    store = StateStore(tmp_path / "state", session)
    kept = RunRecords(None, store, 1.0, said.append, clock.now)
    for index in range(12):
        clock.time = float(index)
        if index == 4:  # the disk goes away, and comes back
            (tmp_path / "state").rename(tmp_path / "gone")
        if index == 8:
            (tmp_path / "gone").rename(tmp_path / "state")
        assert session.step(random_image(index)).verdict.applied
        kept.after_frame(FRAME, RESULT)
        if index in (3, 7, 11):
            where = tmp_path / ("gone" if index == 7 else "state") / STATE_FILE
            assert read_state(where).facts["index"] == (11 if index == 11 else 3)
    assert kept.failed_saves == 4
    assert len(said) == 2
    assert "No such file or directory; the run goes on" in said[0]
    assert said[1] == "the state can be written again"
    (tmp_path / "state").rename(tmp_path / "gone")
    with pytest.raises(OutputError, match=r"cannot write .*state\.safetensors: No such file"):
        kept.finish()


@pytest.mark.parametrize("frames_recorded", [0, 2, 6])
def test_a_schedule_on_a_full_disk_costs_no_mask_and_no_state(
    small_bundle: Bundle,
    frames: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    frames_recorded: int,
) -> None:
    schedule, state, masks = tmp_path / "schedule", tmp_path / "state", tmp_path / "masks"

    class OnFullDisk(TapeWriter):
        lines_left = 1 + frames_recorded

        def _write(self, content: dict[str, object]) -> None:
            if self.lines_left == 0:
                self._file = FullDisk(self.path, 10)  # type: ignore[assignment]
            self.lines_left -= 1
            super()._write(content)

    command = ["run", str(small_bundle.path), "--source", str(frames), "--sink", f"masks:{masks}"]
    command += ["--state", str(state)]
    with monkeypatch.context() as patch:
        patch.setattr("ocl_edge_runtime.records.tape.TapeWriter", OnFullDisk)
        assert run([*command, "--record-schedule", str(schedule)]) == 0
    assert capsys.readouterr().err.count("the recording is cut off there") == 1
    assert len(list(masks.iterdir())) == 6
    assert read_state(state / STATE_FILE).facts["index"] == 5
    recorded = Tape.read(schedule)
    assert len(recorded.frames) == frames_recorded
    assert recorded.ends_with is None
    if frames_recorded:
        assert run([*command[:4], "--replay-schedule", str(schedule)]) == 0
        assert "was cut off and has no end to compare" in capsys.readouterr().err


def test_a_run_that_ends_in_an_error_saves(small_bundle: Bundle, tmp_path: Path) -> None:
    session = open_session(
        small_bundle, SessionOptions(prior=0.8, lr=0.01, opening=1.0), ANY, SimulatedClock()
    )
    failure = pytest.raises(OutputError, match="cannot write a mask")
    with failure, records(session, None, tmp_path / "state", 1e9, "no"):
        session.step(random_image(0))
        raise OutputError("cannot write a mask")
    assert read_state(tmp_path / "state" / STATE_FILE).facts["index"] == 0
    failure = pytest.raises(OutputError, match="cannot write a mask")
    with failure, records(session, None, tmp_path / "state", 1e9, "no"):
        (tmp_path / "state").rename(tmp_path / "gone")
        raise OutputError("cannot write a mask")
