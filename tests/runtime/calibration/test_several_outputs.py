"""Home of a network with several outputs: the norms are the backbone's, a rate is each head's own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ocl_edge.bundle.home import load_home, store_home, store_homes
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BundleError
from ocl_edge.method.verdict import Reason
from ocl_edge_runtime.calibration.calibrate import calibrate_bundle, calibrate_outputs
from ocl_edge_runtime.calibration.findings import Calibration
from ocl_edge_runtime.calibration.frames import FEW_FRAMES, GivenFrames, find_frames
from ocl_edge_runtime.calibration.mixing_choice import best_for_all
from ocl_edge_runtime.session.opening_outputs import open_outputs
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from tests.doubles.clock import SimulatedClock
from tests.doubles.home_frames import home_frame, write_frames
from tests.doubles.images import random_image
from tests.doubles.two_tasks import HEIGHT, WIDTH, export_tasks

Found = tuple[dict[str, Bundle], dict[str, Calibration]]
SHARED = ("frames", "at_home", "distance", "fullness", "home_distances", "copies_distances", "noise_distance")
CORRUPTIONS = "ocl_edge_runtime.calibration.{}.CORRUPTIONS"


@pytest.fixture(scope="module", autouse=True)
def few_corruptions_and_a_network_that_is_sure() -> Iterator[None]:
    from ocl_edge_runtime.calibration.corruptions import CORRUPTIONS as ALL

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ocl_edge_runtime.calibration.measuring.SURE_FROM", 0.4)
        patch.setattr("ocl_edge_runtime.calibration.learning.STEPS", 8)
        for module in ("copies", "learning", "with_norms"):
            patch.setattr(CORRUPTIONS.format(module), {name: ALL[name] for name in ("contrast", "haze")})
        yield


@pytest.fixture(scope="module")
def home_frames(tmp_path_factory: pytest.TempPathFactory) -> GivenFrames:
    directory = tmp_path_factory.mktemp("home") / "frames"
    return find_frames(write_frames(directory, [home_frame(seed) for seed in range(FEW_FRAMES)]))


@pytest.fixture(scope="module")
def found(home_frames: GivenFrames, tmp_path_factory: pytest.TempPathFactory) -> Found:
    bundles = export_tasks(tmp_path_factory.mktemp("together"), "one_feature")
    return calibrate_outputs(bundles, home_frames, "onnxruntime", 1)


def test_each_output_finds_what_it_finds_alone(
    found: Found, home_frames: GivenFrames, tmp_path: Path
) -> None:
    bundles, together = found
    assert list(bundles) == list(together) == ["area", "lanes"]
    for name, bundle in bundles.items():
        alone, single = calibrate_bundle(
            export_tasks(tmp_path / name, "one_feature", name)[""], home_frames, "onnxruntime", 1
        )
        ours, theirs = bundle.manifest.home, alone.manifest.home
        assert ours is not None
        assert theirs is not None
        assert (ours.at_home, ours.frames) == (theirs.at_home, theirs.frames) == (True, FEW_FRAMES)
        for field in ("distance", "confidence", "loss", "features_distance"):
            assert vars(getattr(ours, field)) == pytest.approx(vars(getattr(theirs, field)), rel=1e-3)
        for corruption, agreement in single.agreement.items():
            *given, learned = together[name].agreement[corruption]
            assert given == pytest.approx(agreement[:-1], abs=0.5)
            assert learned == pytest.approx(agreement[-1], abs=1)  # by a gradient of both outputs
        assert torch.allclose(load_home(bundle).mean, load_home(alone).mean, atol=1e-4)
        if ours.fullness == theirs.fullness:
            assert ours.head is not None
            assert theirs.head is not None
            assert ours.head.gains == pytest.approx(theirs.head.gains, abs=1.0)


def test_the_norms_are_shared_and_the_heads_are_not(found: Found) -> None:
    area, lanes = (bundle.manifest.home for bundle in found[0].values())
    assert area is not None
    assert lanes is not None
    for field in SHARED:
        assert getattr(area, field) == getattr(lanes, field), field
    assert area.loss != lanes.loss
    assert area.confidence != lanes.confidence
    assert area.head != lanes.head
    weights = [load_home(bundle).weights for bundle in found[0].values()]
    assert torch.equal(*weights)


@pytest.mark.parametrize(
    ("agreements", "taken"),
    [
        ([[[50, 53, 52]], [[60, 59, 62]]], 2),  # the second loses on one output
        ([[[50, 55, 50.9]], [[50, 44, 50.9]]], 0),  # too little
        ([[[50, 52, 54]], [[50, 59, 52]]], 1),
        ([[[50, 51.5, 51.2]]], 1),
        ([[[50, 70, 54], [70, 55, 70]]], 2),  # costs 15 somewhere, gains 2.5 on the mean
        ([[[50, 70, 54], [70, 60, 70]]], 1),  # costs 10, gains 5
        ([], 0),
    ],
)
def test_the_mixing_is_best_on_the_mean_of_the_outputs_and_loses_on_none(
    agreements: list[list[list[float]]], taken: int
) -> None:
    assert best_for_all([np.array(each) for each in agreements]) == taken


def test_all_outputs_take_one_mixing(found: Found) -> None:
    expected = best_for_all([np.array(list(each.agreement.values())) for each in found[1].values()])
    assert [each.taken for each in found[1].values()] == [expected, expected]


@pytest.mark.parametrize("learns", ["area", "lanes"])
def test_a_head_that_earns_its_place_learns_beside_one_that_does_not(
    found: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learns: str
) -> None:
    shutil.copytree(found[0]["area"].path, tmp_path / "bundle")
    known = {}
    for name, bundle in Bundle.open_outputs(tmp_path / "bundle").items():
        home = bundle.manifest.home
        assert home is not None
        assert home.head is not None
        head = home.head.model_copy(update={"lr": 0.02 if name == learns else 0.0})
        known[name] = home.model_copy(update={"head": head}), load_home(bundle)
    bundles = store_homes(Bundle.open_outputs(tmp_path / "bundle"), known)
    options = SessionOptions(backend="onnxruntime", threads=1, opening=1.0)
    rules = RealtimeOptions(adapt_every=1, statistics_limit=1e9)
    with open_outputs(bundles, options, rules, SimulatedClock()) as outputs:
        took: list[float] = []
        monkeypatch.setattr(outputs.lead.policy, "took", took.append)
        outputs.warm_up()
        assert len(took) == 3  # the lead by itself warms up twice; then all heads that learn, together
        for index in range(3):
            results = outputs.step(random_image(index, HEIGHT, WIDTH), float(index))
            for name, result in results.items():
                assert result.verdict.applied == (name == learns)
                assert (result.verdict.reason is Reason.NOTHING_TRAINS) == (name != learns)
        for name, session in outputs.items():
            assert (session.weights.distance_from_trained() > 0) == (name == learns)


def test_calibrating_again_leaves_no_file_behind(
    found: Found, home_frames: GivenFrames, tmp_path: Path
) -> None:
    bundles = Bundle.open_outputs(shutil.copytree(found[0]["area"].path, tmp_path / "bundle"))
    again, _ = calibrate_outputs(bundles, home_frames, "onnxruntime", 1)
    assert again["area"].identity == found[0]["area"].identity
    files = {each.manifest.home.file for each in again.values() if each.manifest.home}
    assert {file.name for file in again["area"].path.glob("home.*")} == files


def test_one_output_alone_is_refused_with_the_way(found: Found, home_frames: GivenFrames) -> None:
    lanes = found[0]["lanes"]
    home = lanes.manifest.home
    assert home is not None
    for refused in (
        lambda: calibrate_bundle(lanes, home_frames, "onnxruntime", 1),
        lambda: store_home(lanes, home, load_home(lanes)),
    ):
        with pytest.raises(BundleError, match=f"measured for all together: ocl-edge calibrate {lanes.path}"):
            refused()
    assert Bundle.open_outputs(lanes.path)["lanes"] == lanes


def test_without_norms_one_output_is_calibrated(found: Found, home_frames: GivenFrames) -> None:
    bundles = {
        name: replace(bundle, manifest=bundle.manifest.model_copy(update={"norms": ()}))
        for name, bundle in found[0].items()
    }
    with pytest.raises(BundleError, match=r"several outputs and no norms.*--output NAME"):
        calibrate_outputs(bundles, home_frames, "onnxruntime", 1)
