"""Saved state: bit for bit, bound to its bundle, and whole after any kill."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import random_image
from test_realtime import ANY, SimulatedClock

from ocl_edge.bundle import Bundle
from ocl_edge.errors import StateError
from ocl_edge_runtime.engine import EngineOptions
from ocl_edge_runtime.realtime import RealtimeEngine, RealtimeOptions
from ocl_edge_runtime.state import STATE_FILE, StateStore, read_state

KILLS = 200


def make(bundle: Bundle, clock: SimulatedClock, **changes: object) -> RealtimeEngine:
    realtime: RealtimeOptions = replace(ANY, norm_every=3, **changes)  # type: ignore[arg-type]
    return RealtimeEngine(bundle, EngineOptions(prior=0.8, lr=0.01, seed=4), realtime, clock)


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


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_a_damaged_state_is_refused_by_name_or_set_aside(
    small_bundle: Bundle, tmp_path: Path, damage: str
) -> None:
    clock = SimulatedClock()
    engine = make(small_bundle, clock)
    play(engine, clock, 0, 3)
    StateStore(tmp_path, engine).save()
    path = tmp_path / STATE_FILE
    content = path.read_bytes()
    broken = {
        "cut": content[: len(content) // 2],
        "flip": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
        "empty": b"",
        "text": b"hello, this is no state at all",
    }[damage]
    path.write_bytes(broken)
    fresh = make(small_bundle, clock)
    with pytest.raises(StateError, match=STATE_FILE):
        StateStore(tmp_path, fresh).resume("refuse")
    assert path.read_bytes() == broken
    assert "source weights" in StateStore(tmp_path, fresh).resume("set aside")
    assert fresh.head.distance_from_source() == 0
    aside = [f for f in tmp_path.iterdir() if "refused" in f.name]
    assert [f.read_bytes() for f in aside] == [broken]
    assert not path.exists()


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


def test_no_state_is_an_error_unless_auto(small_bundle: Bundle, tmp_path: Path) -> None:
    engine = make(small_bundle, SimulatedClock())
    with pytest.raises(StateError, match="no saved state"):
        StateStore(tmp_path, engine).resume("refuse")
    assert StateStore(tmp_path, engine).resume("set aside") == "no saved state: source weights"


WRITER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from conftest import random_image
from test_state import make
from test_realtime import SimulatedClock
from ocl_edge.bundle import Bundle
from ocl_edge_runtime.state import StateStore

clock = SimulatedClock()
engine = make(Bundle.open(sys.argv[1]), clock)
store = StateStore(Path(sys.argv[2]), engine)
print("running", flush=True)
index = 0
while True:
    clock.time = float(index)
    engine.step(random_image(index % 50))
    store.save()
    index += 1
"""


def test_two_hundred_kills_leave_a_valid_state_each_time(small_bundle: Bundle, tmp_path: Path) -> None:
    """SIGKILL under an adaptation that saves after every frame.

    One process is stopped (SIGSTOP) at 199 random moments and what lies on the disk is read
    as a restart would read it; the last blow is a real kill. What a reader finds at a stop is
    what a kill at that moment leaves: the kernel completes no write of a stopped process.
    """
    tests = Path(__file__).parents[1]
    command = [
        sys.executable,
        "-c",
        WRITER,
        str(small_bundle.path),
        str(tmp_path),
        str(tests),
        str(tests / "runtime"),
    ]
    chance = random.Random(0)
    indices = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        while not (tmp_path / STATE_FILE).exists():
            assert process.poll() is None, "the writer died before its first save"
            time.sleep(0.01)
        for moment in range(KILLS):
            time.sleep(chance.uniform(0.0, 0.02))
            process.send_signal(signal.SIGSTOP if moment < KILLS - 1 else signal.SIGKILL)
            indices.append(read_state(tmp_path / STATE_FILE).facts["index"])
            if moment < KILLS - 1:
                process.send_signal(signal.SIGCONT)
    assert indices == sorted(indices)
    assert indices[-1] > indices[0]
    engine = make(small_bundle, SimulatedClock())
    assert StateStore(tmp_path, engine).resume("refuse") == f"resumed after frame {indices[-1]}"
    assert engine.step(random_image(0)).mask.shape == (40, 50)
