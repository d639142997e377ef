"""A long realtime run with everything on: do memory, open files, threads or latency grow?

    python bench/soak.py BUNDLE [--frames 20000] [--bytes-per-frame 250] [--json FILE]

The real loop over image files: decoding, statistics, updates, guard, masks as PNG, a journal
that is small enough to begin new files, and the state saved after every frame. Among the frames
are black ones, repeated ones, ones of another size and files that are no image. Exit code 1 if
memory grows by more than --bytes-per-frame, or there are more open files or threads in the end.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge_runtime.loop import RunReport, run_stream
from ocl_edge_runtime.records.journal import OLDER_FILES, Journal
from ocl_edge_runtime.records.run_records import RunRecords
from ocl_edge_runtime.records.state import StateStore
from ocl_edge_runtime.session.frames import Frame, FrameResult
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.sinks.files import MaskSink
from ocl_edge_runtime.sources import ImageSource

SAMPLE_EVERY = 50
JOURNAL_BYTES = 200_000
SETTLED = 0.2
"""Share of the run after which memory must not grow any more."""

MOST_BYTES_PER_FRAME = 250.0
"""The report's times and losses take 96 bytes a frame, until it holds 20,000 of them."""


@dataclass(frozen=True)
class Soak:
    """What was measured.

    Attributes:
        frames, skipped, updates: as the loop counts them.
        bytes_per_frame: slope of a straight line through the resident memory, after `SETTLED`.
        resident_mb: at the end.
        open_files, threads: largest number in the last tenth minus that when memory had settled.
        journal_bytes: on the disk at the end, all its files.
        latency_ms: median of the first and the last tenth.
        reasons: why updates were or were not applied.
    """

    frames: int
    skipped: int
    updates: int
    bytes_per_frame: float
    resident_mb: float
    open_files: int
    threads: int
    journal_bytes: int
    latency_ms: tuple[float, float]
    reasons: dict[str, int]

    def growth(self, most_bytes_per_frame: float) -> list[str]:
        """What grew, in words."""
        bounds = {"bytes_per_frame": most_bytes_per_frame, "open_files": 0, "threads": 0}
        return [
            f"{name} grew by {getattr(self, name):.0f}, allowed is {bound:.0f}"
            for name, bound in bounds.items()
            if getattr(self, name) > bound
        ]


class Looped(ImageSource):
    """The files of a directory over and over, ``count`` in all."""

    def __init__(self, directory: Path, count: int) -> None:
        super().__init__(str(directory))
        self.files = list(itertools.islice(itertools.cycle(self.files), count))


def write_frames(directory: Path, height: int, width: int) -> None:
    """Fifty frames, a few of them black, repeated or of another size, and a file that is no image."""
    generator = np.random.default_rng(0)
    for index in range(50):
        size = (width, height) if index % 10 else (width // 2, height + 9)
        coarse = generator.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        if index == 17:
            coarse[:] = 0
        picture = Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR)
        picture.save(directory / f"{index:02d}.png")
    (directory / "23b.png").write_bytes((directory / "23.png").read_bytes())
    (directory / "31b.png").write_bytes(b"no image")


class Gauge:
    """Samples of this process: frame, resident bytes, open files, threads."""

    def __init__(self) -> None:
        self.samples: list[tuple[int, int, int, int]] = []

    def sample(self, frame: int) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        files, threads = (len(os.listdir(f"/proc/self/{what}")) for what in ("fd", "task"))
        self.samples.append((frame, pages * os.sysconf("SC_PAGE_SIZE"), files, threads))

    def growth(self) -> tuple[float, int, int]:
        """Slope of the memory in bytes a frame; growth of open files and threads."""
        settled = np.array(self.samples[int(SETTLED * len(self.samples)) :])
        slope = float(np.polyfit(settled[:, 0], settled[:, 1], 1)[0])
        last = settled[-max(1, len(self.samples) // 10) :]
        files, threads = (int(last[:, column].max() - settled[0, column]) for column in (2, 3))
        return slope, files, threads


def soak(bundle: Bundle, frames: int, work: Path) -> tuple[RunReport, Gauge]:
    session = open_session(
        bundle,
        SessionOptions(
            backend="onnxruntime", threads=1, lr=0.05, opening=1.0
        ),  # high enough that the guard has something to do
        RealtimeOptions(norm_every=4, adapt_every=1, period_s=1.0, statistics_limit=1e9),
    )
    session.warm_up()
    (work / "frames").mkdir()
    write_frames(work / "frames", bundle.manifest.input.height, bundle.manifest.input.width)
    gauge, count = Gauge(), itertools.count()
    with Journal(work / "run.jsonl", JOURNAL_BYTES) as journal:
        records = RunRecords(journal, StateStore(work / "state", session), 0.0, fail)

        def after(frame: Frame, result: FrameResult) -> None:
            records.after_frame(frame, result)
            number = next(count)
            if number % SAMPLE_EVERY == 0:
                gauge.sample(number)

        report = run_stream(session, Looped(work / "frames", frames), [MaskSink(work / "masks")], after)
        records.finish()
    return report, gauge


def fail(words: str) -> None:
    raise RuntimeError(words)


def measured(bundle: Bundle, frames: int) -> Soak:
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        report, gauge = soak(bundle, frames, work)
        journals = [file.stat().st_size for file in work.glob("run.jsonl*")]
    assert len(journals) <= OLDER_FILES + 1
    slope, files, threads = gauge.growth()
    tenth = max(1, len(report.latency_ms) // 10)
    first, last = (float(np.median(part)) for part in (report.latency_ms[:tenth], report.latency_ms[-tenth:]))
    return Soak(
        frames=report.frames,
        skipped=report.skipped,
        updates=report.updates,
        bytes_per_frame=slope,
        resident_mb=gauge.samples[-1][1] / 1e6,
        open_files=files,
        threads=threads,
        journal_bytes=sum(journals),
        latency_ms=(first, last),
        reasons=report.told_reasons(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--bytes-per-frame", type=float, default=MOST_BYTES_PER_FRAME)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = measured(Bundle.open(arguments.bundle), arguments.frames)
    for name, value in asdict(result).items():
        print(f"{name:18}{value:.1f}" if isinstance(value, float) else f"{name:18}{value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(result)) + "\n", encoding="utf-8")
    if growth := result.growth(arguments.bytes_per_frame):
        sys.exit("; ".join(growth))


if __name__ == "__main__":
    main()
