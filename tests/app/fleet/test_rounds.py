"""A round from end to end, without Flower: what comes in, what is published, who takes it and who refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ocl_edge.bundle.fleet import version_of
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import FleetError
from ocl_edge_app.evaluation.labelled import LabelledFrames, LabelSpace, read_label_space
from ocl_edge_app.evaluation.protocol import Result
from ocl_edge_app.fleet import judgement
from ocl_edge_app.fleet.aggregation import Rules
from ocl_edge_app.fleet.contribution import Border
from ocl_edge_app.fleet.judgement import Computes
from ocl_edge_app.fleet.messages import Fields
from ocl_edge_app.fleet.publishing import Judges
from ocl_edge_app.fleet.rounds import Round, Server, run_rounds
from ocl_edge_app.fleet.taking import Vehicle
from ocl_edge_app.fleet.versions import Versions
from ocl_edge_runtime.records.journal import Journal
from ocl_edge_runtime.records.state import Saved, StateStore, read_state, write_state
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.sources.base import Frame
from tests.doubles.fleets import Keys, Learned, keys_in
from tests.doubles.images import random_image

Labelled = tuple[LabelledFrames, LabelSpace]
Answer = Callable[[Fields], Fields]
CPU = Computes("onnxruntime", 1)


@dataclass
class InProcess:
    """Vehicles in this process; what they are asked is kept."""

    answers: dict[str, Answer]
    asked: list[str] = field(default_factory=list)

    def vehicles(self) -> list[str]:
        return list(self.answers)

    def ask(self, asked: Mapping[str, Fields], timeout_s: float) -> Mapping[str, Fields | FleetError]:
        self.asked += [str(fields["kind"]) for fields in asked.values()]
        return {name: self.answers[name](fields) for name, fields in asked.items()}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return keys_in(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def driven(small_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with ``state`` and ``run.jsonl`` of a run that learned."""
    directory = tmp_path_factory.mktemp("driven")
    options = SessionOptions(lr=1e-4, restoration=0.0, threads=1, opening=1.0)
    with open_session(small_bundle, options, RealtimeOptions(statistics_limit=1e9)) as session:
        with Journal(directory / "run.jsonl") as journal:
            for index in range(4):
                image = random_image(index)
                journal.frame(Frame(image, index, f"{index}.png", 0.0, 0.0), session.step(image))
        StateStore(directory / "state", session).save()
    return directory


@pytest.fixture
def vehicle(
    small_bundle: Bundle, keys: Keys, driven: Path, tmp_path: Path, learned: Learned
) -> Callable[..., Vehicle]:
    """A vehicle by its number, which has learned what `learned` says."""

    def make(number: int, bundle: Bundle = small_bundle, frames: Path | None = None) -> Vehicle:
        place = tmp_path / f"vehicle{number}"
        saved = read_state(driven / "state" / "state.safetensors")
        head = learned(number).learned
        tensors = saved.tensors | {f"weight.{n}": w for n, w in head.weights.items()}
        (place / "state").mkdir(parents=True)
        facts = saved.facts | {"bundle": bundle.identity}
        write_state(place / "state" / "state.safetensors", Saved(tensors, facts))
        versions = Versions.begin(place / "fleet", bundle, keys.public)
        return Vehicle(versions, place / "state", driven / "run.jsonl", frames, CPU, lambda _: None)

    return make


@pytest.fixture
def server(small_bundle: Bundle, keys: Keys, tmp_path: Path) -> Server:
    versions = Versions.begin(tmp_path / "server", small_bundle, None)
    return Server(versions, keys.private, Judges(computes=CPU), Rules(), 5.0)


@pytest.fixture
def labelled(small_bundle: Bundle, frames: Path, tmp_path: Path) -> Labelled:
    (tmp_path / "labels").mkdir()
    for index, file in enumerate(sorted(frames.iterdir())):
        label = np.random.default_rng(index).integers(0, 5, (40, 50), dtype=np.uint8)
        Image.fromarray(label).save(tmp_path / "labels" / file.name)
    found = LabelledFrames.find(str(frames), tmp_path / "labels")
    return found, read_label_space(small_bundle.manifest, None, None)


def three(vehicle: Callable[..., Vehicle]) -> dict[str, Vehicle]:
    return {f"v{number}": vehicle(number) for number in range(3)}


def grid_of(vehicles: Mapping[str, Vehicle], **others: Answer) -> InProcess:
    return InProcess({name: each.answer for name, each in vehicles.items()} | others)


def test_a_round_publishes_and_every_vehicle_takes_it(
    server: Server, vehicle: Callable[..., Vehicle], keys: Keys
) -> None:
    vehicles = three(vehicle)
    came_to = server.round(grid_of(vehicles))
    assert (came_to.published, came_to.version, came_to.heads) == (True, 1, [3])
    assert came_to.refused == came_to.declined == {}
    for each in vehicles.values():
        running = each.versions.current()
        assert version_of(running.manifest) == 1
        assert running.identity == server.versions.current().identity
    Bundle.open(server.versions.directory / "current", signed_by=keys.public)


def test_only_the_contribution_leaves_a_vehicle(vehicle: Callable[..., Vehicle], border: Border) -> None:
    one = vehicle(0)
    held = read_state(one.state / "state.safetensors").tensors
    assert "last_adapted" in held, "the state holds the pixels of a frame"
    pixels = held["last_adapted"].numpy().tobytes()
    said = one.answer({"protocol": 1, "network": border.network, "version": 0, "kind": "contribute"})
    assert said.keys() == {"protocol", "version", "facts", "tensors"}
    assert isinstance(said["tensors"], bytes)
    assert pixels[:64] not in said["tensors"]
    summary = json.loads(str(said["facts"]))["summary"]
    assert summary == {
        "frames": 4,
        "updates": 4,
        "undone": 0,
        "opening": 1.0,
        "distance": summary["distance"],
    }


def test_who_does_not_contribute_or_sends_nonsense_is_named_and_the_others_go_on(
    server: Server, vehicle: Callable[..., Vehicle], sampled_bundle: Bundle, border: Border
) -> None:
    vehicles = three(vehicle)
    good = vehicles["v0"]

    def cut(asked: Fields) -> Fields:
        said = good.answer(asked)
        return {**said, "tensors": said["tensors"][:-5]} if "tensors" in said else said  # type: ignore[index]

    came_to = server.round(
        grid_of(
            vehicles,
            stranger=vehicle(8, sampled_bundle).answer,
            truncated=cut,
            silent=lambda _: FleetError("no answer within 5 s"),  # type: ignore[arg-type, return-value]
            older=lambda _: {"protocol": 0, "version": 0},
            newer=lambda _: {"protocol": 2, "version": 0},
            wordless=lambda _: {"protocol": 1},
            typeless=lambda _: {"protocol": 1, "version": 0, "facts": 3, "tensors": b""},
            pickled=lambda _: {"protocol": 1, "version": 0, "facts": "{}", "tensors": b"\x80\x04."},
        )
    )
    assert came_to.published
    words = {
        "stranger": f"bundle {sampled_bundle.identity[:16]}, the server's fleet has {border.network[:16]}",
        "truncated": "damaged",
        "silent": "no answer within",
        "older": "vehicle older has the older ocl-edge",
        "newer": "the server has the older ocl-edge",
        "wordless": "should hold version",
        "typeless": "should hold facts as str, it holds int",
        "pickled": "facts of a contribution are wrong",
    }
    for name, expected in words.items():
        assert expected in came_to.refused[name]


def test_a_vehicle_says_so_to_an_older_server(vehicle: Callable[..., Vehicle], border: Border) -> None:
    said = vehicle(0).answer({"protocol": 0, "network": border.network, "version": 0, "kind": "contribute"})
    assert "the server has the older ocl-edge" in str(said["refusal"])


def test_a_server_that_was_set_back_is_told(
    server: Server, vehicle: Callable[..., Vehicle], border: Border
) -> None:
    vehicles = three(vehicle)
    server.round(grid_of(vehicles))
    asked = {"protocol": 1, "network": border.network, "version": 0, "kind": "contribute"}
    said = vehicles["v0"].answer(asked)
    assert "the server has version 0 of the fleet, this vehicle runs 1" in str(said["refusal"])


@pytest.mark.parametrize(
    "asked",
    [{}, {"protocol": "1"}, {"protocol": 1, "network": 5}, {"protocol": True}, {"kind": "run", "code": b"x"}],
)
def test_no_message_brings_a_vehicle_down(
    vehicle: Callable[..., Vehicle], border: Border, asked: Fields
) -> None:
    whole = {"protocol": 1, "network": border.network, "version": 0, "kind": "contribute"}
    one = vehicle(0)
    for fields in (asked, {**whole, **asked}, {**whole, "kind": "take", "manifest": b"{"}):
        if fields != whole:
            assert "refusal" in one.answer(fields)


def test_a_vehicle_that_learned_nothing_since_takes_the_version_all_the_same(
    server: Server, vehicle: Callable[..., Vehicle]
) -> None:
    vehicles = three(vehicle)
    late = vehicle(9)
    (late.state / "state.safetensors").unlink()
    came_to = server.round(grid_of(vehicles, late=late.answer))
    assert "there is no saved state" in came_to.refused["late"]
    assert version_of(late.versions.current().manifest) == 1


def turn(vehicle: Vehicle, trained: Mapping[str, torch.Tensor]) -> None:
    """Let it have learned a head that contradicts the trained one."""
    file = vehicle.state / "state.safetensors"
    saved = read_state(file)
    turned = {f"weight.{name}": -2 * weight for name, weight in trained.items()}
    write_state(file, Saved(saved.tensors | turned, saved.facts))


def test_a_vehicle_refuses_on_its_own_frames_and_keeps_what_it_runs(
    server: Server, vehicle: Callable[..., Vehicle], border: Border, frames: Path
) -> None:
    vehicles = three(vehicle)
    for each in vehicles.values():
        turn(each, border.trained)
    careful = vehicle(9, frames=frames)
    blind = replace(server, rules=Rules(drift=1e9))
    came_to = blind.round(grid_of(vehicles, careful=careful.answer))
    assert came_to.published
    assert "the guard refuses a head of the fleet on frame_00.png" in came_to.declined["careful"]
    assert version_of(careful.versions.current().manifest) == 0
    assert version_of(vehicles["v0"].versions.current().manifest) == 1
    again = blind.round(grid_of(vehicles, careful=careful.answer))
    assert again.version == 2
    assert version_of(careful.versions.current().manifest) == 0


def test_a_head_that_the_guard_refuses_on_the_servers_frames_is_not_published(
    server: Server, vehicle: Callable[..., Vehicle], border: Border
) -> None:
    wild = replace(server, rules=Rules(drift=1e9), judges=Judges((("0.png", random_image(0)),), None, CPU))
    vehicles = three(vehicle)
    for each in vehicles.values():
        turn(each, border.trained)
    came_to = wild.round(grid_of(vehicles))
    assert not came_to.published
    assert "the guard refuses a head of the fleet on 0.png" in str(came_to.refusal)
    assert server.versions.all() == [0]
    assert {path.name for path in server.versions.directory.iterdir()} == {"versions", "current"}
    assert {version_of(each.versions.current().manifest) for each in vehicles.values()} == {0}


@pytest.mark.parametrize(("after", "published"), [(59.6, True), (59.4, False), (float("nan"), False)])
def test_a_version_whose_miou_falls_is_not_published(
    server: Server, vehicle: Callable[..., Vehicle], labelled: Labelled, monkeypatch: pytest.MonkeyPatch,
    after: float, published: bool,
) -> None:  # fmt: skip
    measured = iter([60.0, after])
    monkeypatch.setattr(judgement, "evaluate_stream", lambda *_: Result(miou=next(measured)))
    came_to = replace(server, judges=Judges((), labelled, CPU)).round(grid_of(three(vehicle)))
    assert came_to.published is published
    if not published:
        assert "mIoU on the labelled footage falls from 60.00" in str(came_to.refusal)


def test_both_versions_are_measured_on_the_labelled_footage(
    server: Server, vehicle: Callable[..., Vehicle], labelled: Labelled
) -> None:
    came_to = replace(server, judges=Judges((), labelled, CPU)).round(grid_of(three(vehicle)))
    assert came_to.published
    assert came_to.miou is not None
    assert all(0 < miou <= 100 for miou in came_to.miou)


def test_nobody_contributes_and_nothing_happens(server: Server) -> None:
    came_to = server.round(InProcess({}))
    assert not came_to.published
    assert came_to.refusal == "no condition has heads of enough vehicles"


def test_a_round_is_a_line_of_the_report(
    server: Server, vehicle: Callable[..., Vehicle], tmp_path: Path
) -> None:
    said: list[str] = []
    run_rounds(server, grid_of(three(vehicle)), 1, 0.0, tmp_path / "rounds.jsonl", said.append)
    (line,) = (tmp_path / "rounds.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line).keys() == Round().as_dict().keys()
    assert "version 1 published" in said[-1]
