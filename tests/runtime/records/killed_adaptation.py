"""Kills a running adaptation with SIGKILL, again and again.

    python -m tests.runtime.records.killed_adaptation.py BUNDLE [--kills 200] [--seed 0]

BUNDLE is an export of the small network of the tests. The parent opens it and builds an session
that never adapts; every life is a fork of it, so that a restart takes milliseconds. A life
resumes from the disk, adapts, saves after every frame as in production, and is killed at a
random moment: while it resumes, in an update, in a write, before a rename. After each kill:

* the state on the disk is whole, of this bundle, and no counter went back;
* the next life starts exactly there.

At the end a run that nobody killed must have the same state, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from ocl_edge.bundle.reading import Bundle
from ocl_edge_runtime.records.state import STATE_FILE, Saved, StateStore, read_state
from tests.doubles.clock import SimulatedClock
from tests.doubles.images import random_image
from tests.doubles.sessions import make

MOST_SAVES = 5
"""A life is killed after 0 to so many saves and a random part of `FRAME_S`."""

FRAME_S = 0.03
PATIENCE_S = 30.0


class Killer:
    """Starts lives of one adaptation and ends them.

    Args:
        bundle: of the small network.
        directory: of the state.
        seed: of the moments of death.
    """

    def __init__(self, bundle: Bundle, directory: Path, seed: int) -> None:
        self.bundle = bundle
        self.directory = directory
        self.clock = SimulatedClock()
        self.session = make(bundle, self.clock)
        source = self.session.export_state()
        for number in range(2):  # load both forms once for all lives
            self.session.predict(random_image(number))
        self.session.import_state(*source)
        self.chance = random.Random(seed)
        self.saved: Saved | None = None
        self.lives_with_progress = 0
        self.interrupted_writes = 0

    def kill_once(self) -> None:
        """One life and its end; then look at what it left."""
        saves, saved = os.pipe()
        life = fork(lambda: self._live(saved))
        os.close(saved)
        try:
            for _ in range(self.chance.randint(0, MOST_SAVES)):
                ready, _, _ = select.select([saves], [], [], PATIENCE_S)
                assert ready, f"the life saved nothing in {PATIENCE_S:.0f} s"
                assert os.read(saves, 1), "the life ended by itself; its traceback is above"
            time.sleep(self.chance.uniform(0.0, FRAME_S))
        finally:
            os.kill(life, signal.SIGKILL)
            _, status = os.waitpid(life, 0)
            os.close(saves)
        assert os.WIFSIGNALED(status), "the life ended by itself; its traceback is above"
        assert os.WTERMSIG(status) == signal.SIGKILL
        names = {file.name for file in self.directory.iterdir()}
        partial = names - {STATE_FILE}
        assert len(partial) <= 1, "a write removes what the killed life before it left"
        assert all(name.startswith(f".{STATE_FILE}.") and name.endswith(".partial") for name in partial)
        self.interrupted_writes += len(partial)
        if self.saved is None and STATE_FILE not in names:
            return  # killed before the very first save
        found = read_state(self.directory / STATE_FILE)
        assert found.facts["bundle"] == self.bundle.identity
        before = counters(self.saved) if self.saved else [-1] * 5
        assert all(now >= then for now, then in zip(counters(found), before, strict=True))
        self.lives_with_progress += counters(found)[0] > before[0]
        self.saved = found

    def _live(self, saved: int) -> None:
        store = StateStore(self.directory, self.session)
        if self.saved is None:
            store.resume("set aside")
        else:
            index = self.saved.facts["index"]
            self.clock.time = float(index)
            assert store.resume("refuse") == f"resumed after frame {index}"
        while True:
            self._frame()
            store.save()
            os.write(saved, b".")

    def _frame(self) -> None:
        """A frame depends on nothing but its number."""
        number = self.session.index + 1
        self.clock.time = float(number)
        self.session.step(random_image(number % 50))

    def compare_with_an_unbroken_run(self) -> None:
        """As many frames in one life leave the same state."""
        saved = self.saved
        assert saved is not None
        with tempfile.TemporaryDirectory() as directory:

            def run() -> None:
                while self.session.index < saved.facts["index"]:
                    self._frame()
                StateStore(Path(directory), self.session).save()

            _, status = os.waitpid(fork(run), 0)
            assert status == 0
            unbroken = read_state(Path(directory) / STATE_FILE)
        assert unbroken.facts == saved.facts
        assert unbroken.tensors.keys() == saved.tensors.keys()
        assert all(torch.equal(t, saved.tensors[n]) for n, t in unbroken.tensors.items())


def counters(saved: Saved) -> list[int]:
    facts, guard = saved.facts, saved.facts["guard"]
    return [
        facts["index"],
        facts["refused_statistics"],
        facts["skipped"],
        guard["rollbacks"],
        guard["resets"],
    ]


def fork(work: Callable[[], None]) -> int:
    """Do something in a child process; its number. No thread may have been started before."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        killer = Killer(Bundle.open(arguments.bundle), Path(directory), arguments.seed)
        for number in range(arguments.kills):
            try:
                killer.kill_once()
            except Exception:
                print(f"seed {arguments.seed}, kill {number}", file=sys.stderr)
                raise
        killer.compare_with_an_unbroken_run()
        assert killer.saved is not None
        report = {
            "seed": arguments.seed,
            "kills": arguments.kills,
            "frames": killer.saved.facts["index"] + 1,
            "lives_with_progress": killer.lives_with_progress,
            "interrupted_writes": killer.interrupted_writes,
            "seconds": round(time.monotonic() - started, 1),
        }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
