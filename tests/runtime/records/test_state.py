"""Saved state: bit for bit, bound to its bundle, and whole after any kill."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import OutputError, StateError
from ocl_edge_runtime.records.state import (
    STATE_FILE,
    Saved,
    StateStore,
    digest_of,
    read_state,
    state_digest,
    write_state,
)
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import SessionOptions
from ocl_edge_runtime.session.session import Session
from tests.doubles.clock import SimulatedClock
from tests.doubles.images import random_image
from tests.doubles.sessions import ANY, make

KILLS = 200


def play(session: Session, clock: SimulatedClock, first: int, last: int) -> list[np.ndarray]:
    masks = []
    for index in range(first, last):
        clock.time = float(index)
        masks.append(session.step(random_image(index)).mask)
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
    assert second.weights.weights_sha256() == whole.weights.weights_sha256()
    assert whole.weights.distance_from_trained() > 0
    tensors, facts = whole.export_state()
    resumed_tensors, resumed_facts = second.export_state()
    assert facts == resumed_facts
    assert all(torch.equal(tensors[name], resumed_tensors[name]) for name in tensors)


def saved_state(bundle: Bundle, directory: Path) -> bytes:
    session = make(bundle, SimulatedClock())
    play(session, session.clock, 0, 3)  # type: ignore[arg-type]
    StateStore(directory, session).save()
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
        assert "trained weights" in StateStore(tmp_path, fresh).resume("set aside"), damage
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
    session = make(small_bundle, SimulatedClock())
    play(session, session.clock, 0, 5)  # type: ignore[arg-type]
    with monkeypatch.context() as patch:
        failing(step, error, patch)
        with pytest.raises(OutputError, match=os.strerror(error)):
            StateStore(tmp_path, session).save()
    assert [f.name for f in tmp_path.iterdir()] == [STATE_FILE]
    assert (tmp_path / STATE_FILE).read_bytes() == content
    StateStore(tmp_path, session).save()
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
    session = make(small_bundle, clock)
    play(session, clock, 0, 2)
    StateStore(tmp_path, session).save()
    with pytest.raises(StateError, match="is of bundle"):
        StateStore(tmp_path, make(sampled_bundle, clock)).resume("refuse")
    other = open_session(small_bundle, SessionOptions("tent-head", opening=1.0), ANY, clock)
    with pytest.raises(StateError, match="is of method ocl-head, this run has tent-head"):
        StateStore(tmp_path, other).resume("refuse")
    assert (tmp_path / STATE_FILE).exists()
    done = StateStore(tmp_path, other).resume("set aside")
    assert "is of method ocl-head" in done
    assert "trained weights" in done
    assert other.weights.distance_from_trained() == 0
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
    session = make(small_bundle, clock)
    play(session, clock, 0, 6)
    tensors, facts = session.export_state()
    fresh = make(small_bundle, clock)
    play(fresh, clock, 6, 8)
    before = state_digest(fresh)

    def refused(tensors: dict[str, torch.Tensor], facts: dict[str, object], name: str) -> None:
        with pytest.raises(StateError, match=rf"(does not fit|is of).*{re.escape(name)}"):
            fresh.import_state(tensors, facts)
        assert state_digest(fresh) == before, name

    assert facts["guard"]["snapshots"] > 0
    for name in tensors.keys() - {"last_adapted"}:  # blank frames leave none
        refused({n: t for n, t in tensors.items() if n != name}, facts, name)
        refused(tensors | {name: torch.zeros(3, 1, 4)}, facts, name)
    for name in facts.keys() - {"learned_at"}:  # older states lack it
        refused(tensors, {n: f for n, f in facts.items() if n != name}, name)
    for name in facts["guard"]:
        guard = {n: f for n, f in facts["guard"].items() if n != name}
        refused(tensors, facts | {"guard": guard}, f"guard.{name}")
    write_state(tmp_path / STATE_FILE, Saved({n: t for n, t in tensors.items() if n != "generator"}, facts))
    assert "generator is missing" in StateStore(tmp_path, fresh).resume("set aside")
    assert state_digest(fresh) == before
    fresh.import_state(tensors, facts)
    assert state_digest(fresh) == state_digest(session)


def test_no_state_is_an_error_unless_auto(small_bundle: Bundle, tmp_path: Path) -> None:
    session = make(small_bundle, SimulatedClock())
    with pytest.raises(StateError, match="no saved state"):
        StateStore(tmp_path, session).resume("refuse")
    assert StateStore(tmp_path, session).resume("set aside") == "no saved state: trained weights"


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


def test_a_state_that_is_not_resumed_stays_beside(small_bundle: Bundle, tmp_path: Path) -> None:
    content = saved_state(small_bundle, tmp_path)
    previous = tmp_path / f"{STATE_FILE}.previous"
    resumed = StateStore(tmp_path, make(small_bundle, SimulatedClock()))
    resumed.resume("refuse")
    resumed.save()
    assert not previous.exists()
    (tmp_path / STATE_FILE).write_bytes(content)
    fresh = StateStore(tmp_path, make(small_bundle, SimulatedClock()))
    fresh.save()
    fresh.save()  # its own state is no previous one
    assert previous.read_bytes() == content
    assert (tmp_path / STATE_FILE).read_bytes() != content
    assert sorted(os.listdir(tmp_path)) == [STATE_FILE, previous.name]


def test_a_state_is_written_through_no_link(small_bundle: Bundle, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    store = StateStore(tmp_path / "state", make(small_bundle, SimulatedClock()))
    for name in (STATE_FILE, f".{STATE_FILE}.partial", f"{STATE_FILE}.previous"):
        os.symlink(precious, tmp_path / "state" / name)
    store.save()
    assert precious.read_text("utf-8") == "precious"
    assert not (tmp_path / "state" / STATE_FILE).is_symlink()


@pytest.mark.parametrize("value", [None, "x", {}, [], -2, 1.5, 10**9, 10**30, float("nan"), True, "\x1b[2J"])
def test_facts_of_other_types_change_nothing(small_bundle: Bundle, tmp_path: Path, value: object) -> None:
    """A digest that fits says who wrote them, not that they make sense; 10^9 snapshots are not waited for."""
    clock = SimulatedClock()
    session = make(small_bundle, clock)
    play(session, clock, 0, 3)
    tensors, facts = session.export_state()
    before = state_digest(session)
    changed = [facts | {name: value} for name in (*facts, "surprise")]
    changed += [facts | {"guard": facts["guard"] | {name: value}} for name in (*facts["guard"], "surprise")]
    refused = 0
    for wrong in changed:
        try:
            session.import_state(tensors, wrong)
        except StateError:
            refused += 1
            assert state_digest(session) == before
        session.import_state(tensors, facts)
    assert refused >= len(changed) - 9  # counters may be large, the settings are not compared


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("mixed", lambda t: t * float("nan")),
        ("mixed", lambda t: -t),
        ("mixed", lambda t: t.double()),
        ("mixed", lambda t: t[:, :3]),
        ("weight.classifier.weight", lambda t: t / 0),
        ("weight.classifier.weight", lambda t: t.half()),
        ("momentum.classifier.bias", lambda t: t * float("inf")),
        ("generator", lambda t: 0 * t),
        ("generator", lambda t: t[:10]),
        ("last_adapted", lambda t: t.float()),
        ("surprise", lambda _: torch.zeros(3)),
    ],
)
def test_tensors_that_make_no_sense_change_nothing(
    small_bundle: Bundle, tmp_path: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    clock = SimulatedClock()
    session = make(small_bundle, clock)
    play(session, clock, 0, 3)
    tensors, facts = session.export_state()
    before = state_digest(session)
    wrong = {**tensors, name: change(tensors.get(name, torch.ones(2, 2, 3)))}
    write_state(tmp_path / STATE_FILE, Saved(wrong, facts))
    with pytest.raises(StateError, match=f"does not fit this session: {name}"):
        StateStore(tmp_path, session).resume("refuse")
    assert state_digest(session) == before


@pytest.mark.parametrize("content", [b"", b"\x01", b"\xff" * 20, (1 << 40).to_bytes(8, "little") + b"{}"])
def test_a_state_file_of_any_kind_is_one_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / STATE_FILE).write_bytes(content)
    with pytest.raises(StateError, match="is damaged"):
        read_state(tmp_path / STATE_FILE)
    (tmp_path / STATE_FILE).unlink()
    os.mkfifo(tmp_path / STATE_FILE)
    with pytest.raises(StateError, match="it is a pipe"):
        read_state(tmp_path / STATE_FILE)


def test_a_state_directory_that_cannot_be_written_is_found_out_before_the_work(small_bundle: Bundle) -> None:
    with pytest.raises(OutputError, match="cannot write the state directory /proc/self"):
        StateStore(Path("/proc/self"), make(small_bundle, SimulatedClock()))
