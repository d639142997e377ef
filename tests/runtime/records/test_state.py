"""Saved state: bit for bit, bound to its bundle, and whole after any kill."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import OutputError, StateError
from ocl_edge_runtime.records.state import STATE_FILE, Saved, StateStore, digest_of, read_state, write_state
from ocl_edge_runtime.session.engine import EngineOptions
from ocl_edge_runtime.session.realtime import RealtimeEngine
from ocl_edge_runtime.session.schedule import state_digest
from tests.doubles.clock import SimulatedClock
from tests.doubles.images import random_image
from tests.doubles.sessions import ANY, make

KILLS = 200


def play(engine: RealtimeEngine, clock: SimulatedClock, first: int, last: int) -> list[np.ndarray]:
    masks = []
    for index in range(first, last):
        clock.time = float(index)
        masks.append(engine.step(random_image(index)).mask)
    return masks


def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(small_bundle: Bundle, tmp_path: Path) -> None:
    clock = SimulatedClock()
    whole = make(small_bundle, clock)
    expected = play(whole, clock, 0, 20)
    first = make(small_bundle, clock)
    masks = play(first, clock, 0, 8)
    StateStore(tmp_path, first).save()
    second = make(small_bundle, clock)
    assert StateStore(tmp_path, second).resume("refuse") == "resumed after frame 7"
    masks += play(second, clock, 8, 20)
    assert all(np.array_equal(a, b) for a, b in zip(masks, expected, strict=True))
    assert second.head.weights_sha256() == whole.head.weights_sha256()
    assert whole.head.distance_from_source() > 0
    tensors, facts = whole.export_state()
    resumed_tensors, resumed_facts = second.export_state()
    assert facts == resumed_facts
    assert all(torch.equal(tensors[name], resumed_tensors[name]) for name in tensors)


def saved_state(bundle: Bundle, directory: Path) -> bytes:
    engine = make(bundle, SimulatedClock())
    play(engine, engine.clock, 0, 3)  # type: ignore[arg-type]
    StateStore(directory, engine).save()
    return (directory / STATE_FILE).read_bytes()


def damaged(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Cuts where the format has a border and in between, one flipped bit in each part, and other files."""
    header = 8 + int.from_bytes(content[:8], "little")
    borders = [1, 7, 8, 9, header // 2, header - 1, header, header + 1, len(content) - 1]
    every_tenth = [len(content) * n // 10 for n in range(1, 10)]
    for length in borders + every_tenth:
        yield f"cut after {length} bytes", content[:length]
    for place in (0, 7, 8, header // 3, header // 2, header - 2, header, len(content) - 1):
        yield (
            f"bit flipped in byte {place}",
            content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :],
        )
    yield "empty", b""
    yield "longer", content + b"\0"
    yield "doubled", content + content
    yield "zeros", bytes(len(content))
    yield "text", b"hello, this is no state at all"


def test_every_damaged_state_is_refused_by_name_or_set_aside(small_bundle: Bundle, tmp_path: Path) -> None:
    content = saved_state(small_bundle, tmp_path)
    path, fresh = tmp_path / STATE_FILE, make(small_bundle, SimulatedClock())
    before, _ = fresh.export_state()
    for number, (damage, broken) in enumerate(damaged(content)):
        path.write_bytes(broken)
        with pytest.raises(StateError, match=STATE_FILE):
            StateStore(tmp_path, fresh).resume("refuse")
        assert path.read_bytes() == broken, damage
        assert "source weights" in StateStore(tmp_path, fresh).resume("set aside"), damage
        assert not path.exists()
        aside = [f for f in tmp_path.iterdir() if "refused" in f.name]
        assert len(aside) == number + 1
        assert any(f.read_bytes() == broken for f in aside)
        after, facts = fresh.export_state()
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items()), damage
        assert facts["index"] == -1
    path.write_bytes(content)
    assert StateStore(tmp_path, fresh).resume("refuse") == "resumed after frame 2"


def failing(name: str, error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make one step of a write fail as the system would."""

    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError(error, os.strerror(error))

    if name == "open":
        monkeypatch.setattr(os, "open", fail)
    elif name == "rename":
        monkeypatch.setattr(Path, "replace", fail)
    else:
        monkeypatch.setattr(os, "fsync", fail)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO], ids=["full", "read-only", "broken"])
@pytest.mark.parametrize("step", ["open", "flush", "rename"])
def test_a_write_that_fails_leaves_the_old_state_and_nothing_else(
    small_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: int
) -> None:
    content = saved_state(small_bundle, tmp_path)
    engine = make(small_bundle, SimulatedClock())
    play(engine, engine.clock, 0, 5)  # type: ignore[arg-type]
    with monkeypatch.context() as patch:
        failing(step, error, patch)
        with pytest.raises(OutputError, match=os.strerror(error)):
            StateStore(tmp_path, engine).save()
    assert [f.name for f in tmp_path.iterdir()] == [STATE_FILE]
    assert (tmp_path / STATE_FILE).read_bytes() == content
    StateStore(tmp_path, engine).save()
    assert read_state(tmp_path / STATE_FILE).facts["index"] == 4


def test_a_damaged_state_that_cannot_be_moved_aside_is_an_error(
    small_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / STATE_FILE).write_bytes(b"damaged")

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OutputError, match=r"is damaged: .*; it cannot be moved aside: Read-only"):
        StateStore(tmp_path, make(small_bundle, SimulatedClock())).resume("set aside")


def test_a_state_of_another_bundle_or_method_is_refused(
    small_bundle: Bundle, sampled_bundle: Bundle, tmp_path: Path
) -> None:
    clock = SimulatedClock()
    engine = make(small_bundle, clock)
    play(engine, clock, 0, 2)
    StateStore(tmp_path, engine).save()
    with pytest.raises(StateError, match="is of bundle"):
        StateStore(tmp_path, make(sampled_bundle, clock)).resume("refuse")
    other = RealtimeEngine(small_bundle, EngineOptions("tent-head"), ANY, clock)
    with pytest.raises(StateError, match="is of method ocl-head, this run has tent-head"):
        StateStore(tmp_path, other).resume("refuse")
    assert (tmp_path / STATE_FILE).exists()
    done = StateStore(tmp_path, other).resume("set aside")
    assert "is of method ocl-head" in done
    assert "source weights" in done
    assert other.head.distance_from_source() == 0
    assert not (tmp_path / STATE_FILE).exists()


def test_the_digest_covers_bytes_of_tensors_of_any_shape(tmp_path: Path) -> None:
    tensors = {"matrix": torch.arange(6.0).reshape(2, 3), "scalar": torch.tensor(1.5), "void": torch.ones(0)}
    content = b"matrix(2, 3)torch.float32" + np.arange(6, dtype=np.float32).tobytes()
    content += b"scalar()torch.float32" + np.float32(1.5).tobytes() + b"void(0,)torch.float32"
    assert digest_of(tensors, "{}") == hashlib.sha256(b"{}" + content).hexdigest()
    write_state(tmp_path / STATE_FILE, Saved(tensors, {}))
    read = read_state(tmp_path / STATE_FILE).tensors
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


def test_an_incomplete_state_changes_nothing_and_is_set_aside(small_bundle: Bundle, tmp_path: Path) -> None:
    clock = SimulatedClock()
    engine = make(small_bundle, clock)
    play(engine, clock, 0, 6)
    tensors, facts = engine.export_state()
    fresh = make(small_bundle, clock)
    play(fresh, clock, 6, 8)
    before = state_digest(fresh)

    def refused(tensors: dict[str, torch.Tensor], facts: dict[str, object], name: str) -> None:
        with pytest.raises(StateError, match=rf"(lacks|is of).*{re.escape(name)}"):
            fresh.import_state(tensors, facts)
        assert state_digest(fresh) == before, name

    assert facts["guard"]["snapshots"] > 0
    for name in tensors.keys() - {"last_adapted"}:  # blank frames leave none
        refused({n: t for n, t in tensors.items() if n != name}, facts, name)
        refused(tensors | {name: torch.zeros(3, 1, 4)}, facts, name)
    for name in facts:
        refused(tensors, {n: f for n, f in facts.items() if n != name}, name)
    for name in facts["guard"]:
        guard = {n: f for n, f in facts["guard"].items() if n != name}
        refused(tensors, facts | {"guard": guard}, f"guard.{name}")
    write_state(tmp_path / STATE_FILE, Saved({n: t for n, t in tensors.items() if n != "generator"}, facts))
    assert "generator; moved to" in StateStore(tmp_path, fresh).resume("set aside")
    assert state_digest(fresh) == before
    fresh.import_state(tensors, facts)
    assert state_digest(fresh) == state_digest(engine)


def test_no_state_is_an_error_unless_auto(small_bundle: Bundle, tmp_path: Path) -> None:
    engine = make(small_bundle, SimulatedClock())
    with pytest.raises(StateError, match="no saved state"):
        StateStore(tmp_path, engine).resume("refuse")
    assert StateStore(tmp_path, engine).resume("set aside") == "no saved state: source weights"


def test_two_hundred_kills_leave_a_valid_state_each_time(small_bundle: Bundle) -> None:
    """SIGKILL under an adaptation that saves after every frame; each life resumes what the last one left."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.runtime.records.killed_adaptation",
            str(small_bundle.path),
            "--kills",
            str(KILLS),
        ],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["kills"] == KILLS
    # the kills came at moments that matter
    assert report["lives_with_progress"] > KILLS / 4
    assert report["interrupted_writes"] > 0
