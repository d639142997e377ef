"""At home and away: what adaptation costs where nothing is wrong, and gains where something is.

    python bench/home.py run   BUNDLE --network NAME [--streams ...] [--rows ...] [--every N]
    python bench/home.py table

Realtime mode, one view, every labelled frame in order, one second apart; several sessions see each frame
in turn. A finished stream is a line of --results and is not run again, so a killed run goes on. CGNet was
trained on CamVid and is at home on it: on Seq05VD and on the part of 0001TP that it was not trained on.
Rows that end in "calibrated" need a bundle that ``ocl-edge calibrate`` has measured home for, the others one
that has none: CGNet's home frames are those of camvid/home, ESPNetv2's streams of Seq05VD take frames of
0001TP, which are not its home, so that the weights of the norms alone are fitted on them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ocl_edge.bundle.reading import Bundle
from ocl_edge_app.evaluation.corruption import parse_corruption
from ocl_edge_app.evaluation.labelled import LabelledFrames, read_label_space
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions

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


def run(
    bundle: Bundle, network: str, streams: list[str], rows: list[str], every: int, data: Path, results: Path
) -> None:
    """Append what is not there yet."""
    done = {(line["network"], line["stream"], line["every"], line["row"]) for line in read(results)}
    own_labels = network == "cgnet"
    space = read_label_space(
        bundle.manifest, None if own_labels else data / "from_cityscapes.json", data / "classes.json"
    )
    for stream in streams:
        left = [row for row in rows if (network, stream, every, row) not in done]
        sequence, _, weather = stream.partition("/")
        frames = LabelledFrames.find(str(data / sequence / "images"), data / sequence / "labels")
        first = NOT_TRAINED_ON.get(network, {}).get(sequence, "")
        wanted = [index for index, (file, _) in enumerate(frames.pairs) if file.stem >= first][::every]
        corruption = parse_corruption(weather)
        sessions = {
            row: open_session(bundle, ROWS[row], None if row == "frozen" else RealtimeOptions(adapt_every=1))
            for row in left
        }
        matrices = {row: space.matrix() for row in left}
        openings: dict[str, list[float]] = {row: [] for row in left}
        for place, index in enumerate(wanted if left else []):
            image, labels = frames.read(index)
            image = corruption.apply(image, index)
            for row, session in sessions.items():
                result = session.step(image, float(place * every))
                matrices[row].add(result.mask, labels)
                openings[row].append(result.opening)
        for row, session in sessions.items():
            session.close()
            line = {
                "network": network,
                "stream": stream,
                "every": every,
                "row": row,
                "frames": len(wanted),
                "miou": round(100 * matrices[row].miou(), 2),
                "opening": round(float(np.mean(openings[row])), 3),
                "drift": round(session.weights.distance_from_trained(), 4),
            }
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--network", choices=list(STREAMS), default="cgnet")
    parser.add_argument("--streams", nargs="+")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS))
    parser.add_argument("--every", type=int, default=1, help="take every n-th frame")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/camvid"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.what == "table":
        table(arguments.results)
        return
    if arguments.bundle is None:
        parser.error("run needs a bundle")
    bundle = Bundle.open(arguments.bundle)
    rows = arguments.rows or (UNCALIBRATED if bundle.manifest.home is None else CALIBRATED)
    if set(rows) - set(UNCALIBRATED if bundle.manifest.home is None else CALIBRATED):
        parser.error("calibrated rows need a calibrated bundle, the others one that is not")
    torch.set_num_threads(1)
    run(
        bundle,
        arguments.network,
        arguments.streams or list(STREAMS[arguments.network]),
        rows,
        arguments.every,
        arguments.data,
        arguments.results,
    )


if __name__ == "__main__":
    main()
