"""At home and away: what adaptation costs where nothing is wrong, and gains where something is.

    python bench/home.py run    BUNDLE --network NAME [--streams ...] [--rows ...] [--every N] [--rounds N]
    python bench/home.py table

Realtime mode, one view, every labelled frame in order, one second apart; several sessions see each frame
in turn. A finished stream is a line of --results and is not run again, so a killed run goes on. CGNet was
trained on CamVid and is at home on it: on Seq05VD and on the part of 0001TP that it was not trained on.
Rows that end in "calibrated" need a bundle that ``ocl-edge calibrate`` has measured home for, the others one
that has none: CGNet's home frames are those of camvid/home, ESPNetv2's streams of Seq05VD take frames of
0001TP, which are not its home, so that the weights of the norms alone are fitted on them.

``--rows field`` are the methods of other papers beside ours (`bench/field.py` has what they come to). ``ms``
is the median time of a frame, mask and update, on the thread's own clock; as every row sees each frame in
turn, all of them share what else the machine does. With ``--rounds`` a stream comes again and again, and a
line has the mIoU of each round.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ocl_edge.bundle.reading import Bundle
from ocl_edge.masks import Mask
from ocl_edge.method.methods import PUBLISHED
from ocl_edge_app.evaluation.corruption import parse_corruption
from ocl_edge_app.evaluation.labelled import LabelledFrames, LabelSpace, read_label_space
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.session import Session

RESULTS = Path(__file__).parent / "results" / "home.jsonl"
BACKEND = "onnxruntime"
NOT_TRAINED_ON = {"cgnet": {"0001TP": "0001TP_008550"}}
"""Network -> sequence -> the frame from which on the network has not seen it."""
AWAY = (
    "Seq05VD/clean",
    "Seq05VD/fog:3",
    "Seq05VD/contrast:3",
    "Seq05VD/snow:2",
    "Seq05VD/gaussian_noise:2",
    "Seq05VD/motion_blur:3",
)
STREAMS = {
    "cgnet": (
        "Seq05VD/clean",
        "0001TP/clean",
        "Seq05VD/fog:3",
        "Seq05VD/contrast:3",
        "Seq05VD/snow:2",
        "Seq05VD/gaussian_noise:2",
        "Seq05VD/motion_blur:3",
    ),
    "espnetv2": ("0001TP/clean", "Seq05VD/clean", "Seq05VD/fog:3", "Seq05VD/snow:2"),
    "espnetv2 1.0": AWAY,
    "espnetv2 0.5": AWAY,
}
ADAPTING = SessionOptions(backend=BACKEND, threads=1)
NORM = replace(ADAPTING, method="norm")
ROWS = {
    "frozen": replace(ADAPTING, method="frozen"),
    "norm, opening 1": replace(NORM, opening=1.0),
    "norm, auto": NORM,
    "ocl-head, opening 1": replace(ADAPTING, opening=1.0),
    "ocl-head, auto": ADAPTING,
    "norm, opening 1, calibrated": replace(NORM, opening=1.0),
    "ocl-head, auto, calibrated": ADAPTING,
}
CALIBRATED = [row for row in ROWS if row.endswith("calibrated")]
UNCALIBRATED = [row for row in ROWS if row not in CALIBRATED]
OF_PAPERS = {method.name: SessionOptions(method.name, backend="torch", threads=1) for method in PUBLISHED}
RATES = {"eata": (5e-4,)}
"""Others for methods whose own one breaks, chosen on Seq05VD under frost, shot noise and defocus blur."""

OF_PAPERS |= {
    f"{name}, lr {rate:g}": replace(OF_PAPERS[name], lr=rate)
    for name, rates in RATES.items()
    for rate in rates
}
FIELD = ["frozen", *OF_PAPERS, "norm, auto", "ocl-head, auto", "ocl-head, auto, calibrated"]


def open_row(bundle: Bundle, row: str) -> Session:
    if row in OF_PAPERS:
        return open_session(bundle, OF_PAPERS[row])
    return open_session(bundle, ROWS[row], None if row == "frozen" else RealtimeOptions(adapt_every=1))


@dataclass
class Course:
    """How one row fares on a stream."""

    session: Session
    space: LabelSpace
    rounds: list[float] = field(default_factory=list)
    openings: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)

    def begin_round(self) -> None:
        self.matrix = self.space.matrix()

    def step(self, image: NDArray[np.uint8], labels: Mask, now_s: float) -> None:
        started = time.thread_time()
        result = self.session.step(image, now_s)
        self.ms.append(1000 * (time.thread_time() - started))
        self.matrix.add(result.mask, labels)
        self.openings.append(result.opening)

    def end_round(self) -> None:
        self.rounds.append(round(100 * self.matrix.miou(), 2))

    def facts(self) -> dict[str, Any]:
        self.session.close()
        return {
            "miou": self.rounds[-1],
            "opening": round(float(np.mean(self.openings)), 3),
            "drift": round(self.session.weights.distance_from_trained(), 4),
            "ms": round(float(np.median(self.ms)), 1),
            **({"rounds": self.rounds} if len(self.rounds) > 1 else {}),
        }


@dataclass(frozen=True)
class Part:
    """What of the streams is run: every n-th frame, so often."""

    every: int
    rounds: int


def run(
    bundle: Bundle, network: str, streams: list[str], rows: list[str], part: Part, data: Path, results: Path
) -> None:
    """Append what is not there yet."""
    done = {key_of(line) for line in read(results)}
    own_labels = network == "cgnet"
    space = read_label_space(
        bundle.manifest, None if own_labels else data / "from_cityscapes.json", data / "classes.json"
    )
    for stream in streams:
        told = {"network": network, "stream": stream, "every": part.every}
        left = [row for row in rows if (network, stream, part.every, row, part.rounds) not in done]
        sequence, _, weather = stream.partition("/")
        frames = LabelledFrames.find(str(data / sequence / "images"), data / sequence / "labels")
        first = NOT_TRAINED_ON.get(network, {}).get(sequence, "")
        wanted = [index for index, (file, _) in enumerate(frames.pairs) if file.stem >= first]
        wanted = wanted[:: part.every]
        corruption = parse_corruption(weather)
        courses = {row: Course(open_row(bundle, row), space) for row in left}
        seconds = itertools.count(0, part.every)
        for _ in range(part.rounds if left else 0):
            for course in courses.values():
                course.begin_round()
            for index in wanted:
                image, labels = frames.read(index)
                image, now_s = corruption.apply(image, index), float(next(seconds))
                for course in courses.values():
                    course.step(image, labels, now_s)
            for course in courses.values():
                course.end_round()
        for row, course in courses.items():
            append(results, {**told, "row": row, "frames": len(wanted), **course.facts()})


def key_of(line: dict[str, Any]) -> tuple[Any, ...]:
    """What a line is of."""
    return (*(line.get(name) for name in ("network", "stream", "every", "row")), len(line.get("rounds", [0])))


def append(results: Path, line: dict[str, Any]) -> None:
    with results.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(line, flush=True)


def read(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text("utf-8").splitlines()] if results.exists() else []


def table(results: Path) -> None:
    """A line for each network and stream; mean openings of auto in brackets."""
    lines = read(results)
    print("| network | stream | frames | " + " | ".join(ROWS) + " |")
    print("|---" * (len(ROWS) + 3) + "|")
    lines = [e for e in lines if "frames" in e and "rounds" not in e]
    for network, stream, frames in dict.fromkeys((e["network"], e["stream"], e["frames"]) for e in lines):
        found = {
            e["row"]: e
            for e in lines
            if (e["network"], e["stream"], e["frames"]) == (network, stream, frames)
        }
        cells = [
            f"{found[row]['miou']:.1f}" + (f" ({found[row]['opening']:.2f})" if "auto" in row else "")
            if row in found
            else ""
            for row in ROWS
        ]
        print("| " + " | ".join([network, stream, str(frames), *cells]) + " |")


def rows_of(wanted: list[str] | None, calibrated: bool) -> list[str]:
    """Rows by name, ``field`` being all of the field's; each row needs a bundle of its kind."""
    own, others = (CALIBRATED, UNCALIBRATED) if calibrated else (UNCALIBRATED, CALIBRATED)
    rows = FIELD if wanted == ["field"] else wanted or own
    either = {"frozen", *OF_PAPERS}
    return [row for row in rows if row in either or row not in others]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--network", choices=list(STREAMS), default="cgnet")
    parser.add_argument("--streams", nargs="+")
    parser.add_argument("--rows", nargs="+", choices=[*ROWS, *OF_PAPERS, "field"])
    parser.add_argument("--every", type=int, default=1, help="take every n-th frame")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/camvid"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.what == "table":
        table(arguments.results)
        return
    if arguments.bundle is None:
        parser.error("run needs a bundle")
    bundle = Bundle.open(arguments.bundle)
    rows = rows_of(arguments.rows, bundle.manifest.home is not None)
    if not rows:
        parser.error("calibrated rows need a calibrated bundle, the others one that is not")
    torch.set_num_threads(1)
    streams = arguments.streams or list(STREAMS[arguments.network])
    part = Part(arguments.every, arguments.rounds)
    run(bundle, arguments.network, streams, rows, part, arguments.data, arguments.results)


if __name__ == "__main__":
    main()
