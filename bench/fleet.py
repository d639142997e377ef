"""A fleet of the demo's drawn drives: what a vehicle gains that joins, and what poison does.

    python bench/fleet.py drive WORK [--vehicles 50]      each vehicle drives, learns and packs what it sends
    python bench/fleet.py join WORK --results FILE        new vehicles join, with and without the fleet
    python bench/fleet.py table --results FILE

The demo's network, calibrated on 40 drawn frames by day. Vehicles drive 60 s at a frame a second through
weather that is away from home; those that join see their first 30 frames at 10 a second. What is there
already is not run again, so a killed run goes on.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fleet_poison import POISONS, Poison, unchanged  # type: ignore[import-not-found]
from fleet_table import append, read_lines, table  # type: ignore[import-not-found]
from numpy.typing import NDArray
from PIL import Image

from ocl_edge.bundle.fleet import trained_head
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import FleetError
from ocl_edge.method.fleet_heads import FleetHead, FleetHeads
from ocl_edge.scoring.metrics import ConfusionMatrix
from ocl_edge.tensor_files import serialise_tensors
from ocl_edge_app.demo.world.classes import CLASSES
from ocl_edge_app.demo.world.drive import FIRST_DRIVE_SEED, day_frames, record
from ocl_edge_app.demo.world.measure import SHIPPED
from ocl_edge_app.demo.world.scene import Scene
from ocl_edge_app.demo.world.weather import DUSK, FOG, NIGHT, RAIN
from ocl_edge_app.fleet.aggregation import Rules, aggregate
from ocl_edge_app.fleet.contribution import Border, Contribution, Facts, Packed, Summary, tensors_of
from ocl_edge_app.fleet.vehicle import learned_in
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_runtime.calibration.calibrate import calibrate_bundle
from ocl_edge_runtime.calibration.frames import find_frames
from ocl_edge_runtime.records.state import digest_of
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.session import Session

WEATHERS = {
    "fog": FOG,
    "late dusk": DUSK.towards(NIGHT, 0.5),
    "night": NIGHT,
    "foggy night": FOG.towards(NIGHT, 0.5),
    "rainy night": RAIN.towards(NIGHT, 0.5),
}
DRIFTS_BY = 0.25
"""Each vehicle's weather is up to so far on the way to another one."""

FIRST_VEHICLE, FIRST_TO_JOIN = FIRST_DRIVE_SEED + 5_000, FIRST_DRIVE_SEED + 6_000
HOME_SEED, HOME_STREETS = 800_000, 20
DRIVE_FRAMES, JOIN_FRAMES, JOIN_FPS = 60, 30, 10
POISONED = (0, 1, 5, 20)

Filmed = tuple[float, NDArray[np.uint8], NDArray[np.uint8]]
"""Seconds, image and labels."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    driving = verbs.add_parser("drive")
    joining = verbs.add_parser("join")
    for verb in (driving, joining):
        verb.add_argument("work", type=Path)
        verb.add_argument("--vehicles", type=int, default=50)
    joining.add_argument("--join", type=int, default=20, help="vehicles that join")
    showing = verbs.add_parser("table")
    for verb in (joining, showing):
        verb.add_argument("--results", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.verb == "table":
        table(arguments.results, WEATHERS)
        return
    arguments.work.mkdir(parents=True, exist_ok=True)
    bundle = demo_bundle(arguments.work)
    if arguments.verb == "drive":
        drive_all(bundle, arguments.work, arguments.vehicles)
    else:
        join_all(bundle, arguments.work, arguments.vehicles, arguments.join, arguments.results)


def demo_bundle(work: Path) -> Bundle:
    """Exported and calibrated, once."""
    if (work / "bundle").exists():
        return Bundle.open(work / "bundle")
    home = work / "home"
    home.mkdir(exist_ok=True)
    for street in range(HOME_STREETS):
        for index, (image, _) in enumerate(day_frames(HOME_SEED + street, [2.0, 9.0])):
            Image.fromarray(image).save(home / f"{street:03d}_{index}.png")
    exported = export_bundle(ExportRequest(SHIPPED, work / "exported"))
    calibrate_bundle(exported, find_frames(home, 3), "onnxruntime", 1, lambda _: None)
    exported.path.rename(work / "bundle")
    return Bundle.open(work / "bundle")


def frames_of(seed: int, count: int, fps: float) -> Iterator[Filmed]:
    """A drive through the weather of its seed."""
    rng, kinds = np.random.default_rng((seed, 0xF1EE7)), list(WEATHERS.values())
    weather = kinds[seed % len(kinds)].towards(
        kinds[int(rng.integers(len(kinds)))], float(rng.uniform(0, DRIFTS_BY))
    )
    scene = Scene(seed)
    for index in range(count):
        yield index / fps, *record(scene, index / fps, weather, (seed, index))


def weather_of(seed: int) -> str:
    return list(WEATHERS)[seed % len(WEATHERS)]


def session_of(bundle: Bundle, fleet: FleetHeads | None = None, method: str = "ocl-head") -> Session:
    options = SessionOptions(method, backend="onnxruntime", threads=1)
    session = open_session(bundle, options, None if method == "frozen" else RealtimeOptions())
    if method != "frozen":
        session.updates.learner.fleet = fleet  # type: ignore[attr-defined]
    return session


def drive_all(bundle: Bundle, work: Path, vehicles: int) -> None:
    """Each vehicle's contribution, as it travels: ``vehicle_NNN.json`` and ``.safetensors``."""
    border = Border(bundle, trained_head(bundle))
    for number in range(vehicles):
        facts_file = work / f"vehicle_{number:03d}.json"
        if facts_file.exists():
            continue
        with session_of(bundle) as session:
            stepped = [
                session.step(image, at) for at, image, _ in frames_of(FIRST_VEHICLE + number, DRIVE_FRAMES, 1)
            ]
            state, _ = session.export_state()
        distances = [each.distance for each in stepped if each.distance is not None]
        summary = Summary(
            frames=len(stepped),
            updates=sum(each.verdict.applied for each in stepped),
            undone=sum(each.verdict.undone for each in stepped),
            opening=float(np.mean([each.opening for each in stepped])),
            distance=float(np.mean(distances)) if distances else None,
        )
        facts = Facts(network=border.network, version=0, summary=summary)
        packed = border.pack(Contribution(facts, learned_in(state)))
        facts_file.with_suffix(".safetensors").write_bytes(packed.tensors)
        facts_file.write_text(packed.facts, "utf-8")
        print(number, weather_of(FIRST_VEHICLE + number), summary, flush=True)


def read_all(border: Border, work: Path, vehicles: int) -> dict[str, Contribution]:
    files = [work / f"vehicle_{number:03d}.json" for number in range(vehicles)]
    return {
        file.stem: border.unpack(
            Packed(file.read_text("utf-8"), file.with_suffix(".safetensors").read_bytes())
        )
        for file in files
    }


def sent_as(
    border: Border, sent: dict[str, Contribution], poison: Poison, by: list[str]
) -> dict[str, Packed]:
    """What travels where some vehicles send poison: nobody checks it before."""
    trained = FleetHead(border.trained, torch.zeros(0))
    learned = {name: poison(c.learned, trained) if name in by else c.learned for name, c in sent.items()}
    return {
        name: Packed(sent[name].facts.model_dump_json(), serialise_tensors(tensors_of(head), {}))
        for name, head in learned.items()
    }


def received(border: Border, packed: dict[str, Packed]) -> tuple[dict[str, Contribution], set[str]]:
    """What passes the border, and whose did not."""
    through, stopped = {}, set()
    for name, each in packed.items():
        try:
            through[name] = border.unpack(each)
        except FleetError:
            stopped.add(name)
    return through, stopped


def join_all(bundle: Bundle, work: Path, vehicles: int, joining: int, results: Path) -> None:
    border = Border(bundle, trained_head(bundle))
    sent = read_all(border, work, vehicles)
    done = {line["row"] for line in read_lines(results)}
    streams = {
        seed: list(frames_of(seed, JOIN_FRAMES, JOIN_FPS))
        for seed in range(FIRST_TO_JOIN, FIRST_TO_JOIN + joining)
    }

    def note(row: str, fleet: FleetHeads | None, method: str = "ocl-head", **more: Any) -> None:
        if row not in done:
            line = {"row": row, "miou": scores(bundle, streams, fleet, method), **more}
            append(results, line)

    note("frozen", None, "frozen")
    note("joins alone", None)
    note("one head for all weather", one_head(border, sent))
    rounds = [("nobody", 0), *((kind, count) for kind in POISONS for count in POISONED[1:])]
    for kind, count in rounds:
        by = np.random.default_rng(7).permutation(sorted(sent))[:count].tolist()
        honest = {name: c for name, c in sent.items() if name not in by}
        packed = sent_as(border, sent, POISONS.get(kind, unchanged), by)
        started = time.perf_counter()
        through, stopped = received(border, packed)
        found = aggregate(through, border.trained)
        seconds = time.perf_counter() - started
        refused = stopped | found.refused.keys()
        same = digest(found.fleet) == digest(aggregate(honest, border.trained).fleet)
        more: dict[str, Any] = {
            "poison": kind, "poisoned": count, "poison_refused": len(refused & set(by)),
            "honest_refused": len(refused - set(by)), "as_without_them": same, "seconds": seconds,
            "bytes": sum(each.bytes for each in packed.values()),
            "heads": [conditions_in(v) for v in found.vehicles],
        }  # fmt: skip
        row = f"fleet, {count} of {vehicles} send {kind}" if count else "fleet"
        print(row, more, flush=True)
        if same and count:
            row_of_rest = f"fleet of {vehicles - count}"
            note(row_of_rest, found.fleet)
            done.add(row_of_rest)
            if row not in done:
                append(results, {"row": row, "miou": None, "same_as": row_of_rest, **more})
        else:
            note(row, found.fleet, **more)


def conditions_in(vehicles: tuple[str, ...]) -> dict[str, int]:
    """Weather of the vehicles that made a head."""
    return dict(Counter(weather_of(FIRST_VEHICLE + int(name.rpartition("_")[2])) for name in vehicles))


def one_head(border: Border, sent: dict[str, Contribution]) -> FleetHeads:
    """The mean of all, whatever their weather."""
    found = aggregate(sent, border.trained, Rules(near=float("inf")))
    assert found.fleet is not None
    return found.fleet


def scores(
    bundle: Bundle, streams: dict[int, list[Filmed]], fleet: FleetHeads | None, method: str
) -> dict[str, float]:
    """mIoU of the vehicles that join, in percent, by weather and over all."""
    matrices = {name: ConfusionMatrix(len(CLASSES)) for name in (*WEATHERS, "all")}
    for seed, frames in streams.items():
        with session_of(bundle, fleet, method) as session:
            for at, image, labels in frames:
                mask = session.step(image, at).mask
                for name in (weather_of(seed), "all"):
                    matrices[name].add(mask, labels)
    return {name: round(100 * matrix.miou(), 2) for name, matrix in matrices.items()}


def digest(fleet: FleetHeads | None) -> str:
    heads = fleet.heads if fleet else ()
    return digest_of({f"{i}.{n}": t for i, head in enumerate(heads) for n, t in tensors_of(head).items()}, "")


if __name__ == "__main__":
    main()
