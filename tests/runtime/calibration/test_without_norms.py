"""A network without BatchNorm that was calibrated: home is the head's input, and the way back there."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ocl_edge.bundle.home import HomeTensors, load_head_input, load_home, store_home
from ocl_edge.bundle.reading import Bundle, load_backbone, load_head
from ocl_edge.method.home import opening_at
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_runtime.calibration.calibrate import calibrate_bundle
from ocl_edge_runtime.calibration.findings import Calibration
from ocl_edge_runtime.calibration.frames import GivenFrames, find_frames
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.session.setup import notes_on
from tests.doubles import small_network
from tests.doubles.bundles import SMALL_ARCH
from tests.doubles.clock import SimulatedClock
from tests.doubles.home_frames import home_frame, write_frames
from tests.doubles.sessions import ANY

OPTIONS = SessionOptions(backend="onnxruntime", threads=1)
SURE_FROM = "ocl_edge_runtime.calibration.measuring.SURE_FROM"
SECONDS = 30


def foggy(seed: int) -> np.ndarray:
    """A home frame behind a veil."""
    return (home_frame(seed) * 0.3 + 150).astype(np.uint8)


@pytest.fixture(scope="module")
def uncalibrated(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    directory = tmp_path_factory.mktemp("group_norm")
    torch.manual_seed(0)
    network = small_network.WithoutBatchNorm().eval()
    with torch.no_grad():
        network.classifier.weight.mul_(4)
        size = small_network.HEIGHT, small_network.WIDTH
        network.classifier.bias.sub_(network(torch.randn(8, 3, *size)).mean((0, 2, 3)))
    torch.save(network.state_dict(), directory / "network.pth")
    request = ExportRequest(
        directory / "network.pth",
        directory / "bundle",
        f"{SMALL_ARCH}_without_batch_norm",
        input_size=(small_network.HEIGHT, small_network.WIDTH),
    )
    return export_bundle(request)


@pytest.fixture(scope="module")
def home_frames(tmp_path_factory: pytest.TempPathFactory) -> GivenFrames:
    directory = tmp_path_factory.mktemp("home") / "frames"
    return find_frames(write_frames(directory, [home_frame(seed) for seed in range(20)]))


@pytest.fixture(scope="module")
def calibrated(
    uncalibrated: Bundle, home_frames: GivenFrames, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Bundle, Calibration]:
    copy = shutil.copytree(uncalibrated.path, tmp_path_factory.mktemp("calibrated") / "bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SURE_FROM, 0.4)
        return calibrate_bundle(Bundle.open(copy), home_frames, "onnxruntime", 1)


@pytest.fixture
def moving(calibrated: tuple[Bundle, Calibration], tmp_path: Path) -> Bundle:
    """A bundle whose head's input is moved all the way, whatever the copies have told."""
    bundle = Bundle.open(shutil.copytree(calibrated[0].path, tmp_path / "moving"))
    assert bundle.manifest.home is not None
    home = bundle.manifest.home.model_copy(update={"fullness": 1.0, "head": None})
    return store_home(bundle, home, load_home(bundle))


def open_realtime(bundle: Bundle, options: SessionOptions, realtime: RealtimeOptions = ANY) -> Session:
    return open_session(bundle, options, realtime, SimulatedClock())


def test_home_is_the_mean_of_the_heads_input_and_how_it_varies(
    calibrated: tuple[Bundle, Calibration], home_frames: GivenFrames
) -> None:
    bundle, found = calibrated
    backbone = load_backbone(bundle)
    preprocessor = open_realtime(bundle, OPTIONS).segmenter.preprocessor
    with torch.no_grad():
        means = torch.stack(
            [
                backbone(preprocessor.single(home_frames.read(index)))[0].mean((0, 2, 3))
                for index in range(len(home_frames))
            ]
        )
    measured = load_home(bundle).head_input
    assert measured is not None
    assert torch.allclose(measured[0], means.mean(0), atol=1e-5)
    assert torch.allclose(measured[1], means.std(0, correction=0), atol=1e-5)
    assert bundle.manifest.home is not None
    assert bundle.manifest.home.at_home
    assert np.quantile(found.distances, 0.9) == pytest.approx(1.0)
    assert found.openings == [opening_at(d) for d in found.distances]
    assert max(opening for copies in found.copies.values() for _, opening in copies) == 1.0
    assert "taken for its home" in " ".join(found.notes)


def test_a_run_stays_frozen_at_home_and_opens_away(moving: Bundle) -> None:
    session = open_realtime(moving, OPTIONS)
    frozen = open_session(moving, replace(OPTIONS, method="frozen"))
    for index in range(10):
        image = home_frame(100 + index)
        assert np.array_equal(session.predict(image, float(index)), frozen.predict(image, float(index)))
    openings = [session.step(foggy(index), 10.0 + index).opening for index in range(SECONDS)]
    assert openings[:2] == [0.0, 1.0]
    assert openings[-1] == pytest.approx(1.0, abs=0.01)
    home_again = [session.step(home_frame(index), 50.0 + index).opening for index in range(3)]
    assert home_again == [0.0] * 3
    assert session.weights.distance_from_trained() == 0


def test_the_way_home_is_a_bias_of_the_linear_head(moving: Bundle) -> None:
    """b' = b + W (mean at home - running mean), once the running mean has settled on one frame."""
    session = open_realtime(moving, replace(OPTIONS, opening=1.0, method="norm"))
    image = foggy(0)
    for index in range(SECONDS):
        session.predict(image, float(index))
    assert session.seen is not None
    view = session.segmenter.preprocessor.single(image)
    head, measured = load_head(moving), load_home(moving).head_input
    assert measured is not None
    with torch.no_grad():
        features = load_backbone(moving)(view)[0]
        weight, bias = dict(head.named_parameters()).values()
        if weight.dim() == 1:
            weight, bias = bias, weight
        shift = weight[:, :, 0, 0] @ (measured[0] - features.mean((0, 2, 3)))
        expected = torch.nn.functional.conv2d(features, weight, bias + shift)
    assert torch.allclose(session.seen.logits, expected, atol=1e-4)
    assert shift.abs().max() > 0.1


@pytest.mark.parametrize("update", ["inline", "background"])
def test_the_head_learns_from_two_views_that_are_moved_alike(moving: Bundle, update: str) -> None:
    options = replace(ANY, update=update, loss_stride=1)
    session = open_realtime(moving, replace(OPTIONS, opening=1.0, lr=0.0), options)
    head, pairs = session.updates.learner.head, []  # type: ignore[attr-defined]
    adapt = head.adapt
    head.adapt = lambda pair, *rest: (pairs.append(pair), adapt(pair, *rest))[1]
    session.step(foggy(0), 0.0)
    session.settle()
    view, backbone = session.segmenter.preprocessor.single(foggy(0)), load_backbone(moving)
    with torch.no_grad():
        views = torch.cat((backbone(view)[0], backbone(view.flip(3))[0]))
    home = load_home(moving).head_input
    assert home is not None
    way = (home[0] - views[:1].mean((0, 2, 3))).reshape(1, -1, 1, 1)
    assert torch.allclose(pairs[0][0], views + way, atol=1e-4)
    session.close()


def test_a_state_goes_on_where_it_was(moving: Bundle) -> None:
    first, other = (open_realtime(moving, OPTIONS) for _ in range(2))
    for index in range(6):
        first.step(foggy(index), float(index))
    other.import_state(*first.export_state())
    masks = [session.step(foggy(7), 7.0).mask for session in (first, other)]
    assert np.array_equal(*masks)
    assert torch.equal(first.export_state()[0]["head_input"], other.export_state()[0]["head_input"])


def test_paper_mode_moves_it_too(moving: Bundle) -> None:
    session = open_session(moving, replace(OPTIONS, method="norm"))
    openings = [session.step(foggy(index)).opening for index in range(5)]
    assert openings == [1.0] * 5


def test_uncalibrated_it_stays_frozen_and_says_how_to_change_that(uncalibrated: Bundle) -> None:
    assert load_head_input(uncalibrated) is None
    session = open_realtime(uncalibrated, OPTIONS)
    assert {session.step(foggy(index), float(index)).opening for index in range(5)} == {0.0}
    (note,) = notes_on(uncalibrated, OPTIONS)
    assert "ocl-edge calibrate" in note


def test_tensors_of_home_must_fit(moving: Bundle) -> None:
    home, tensors = moving.manifest.home, load_home(moving)
    assert home is not None
    assert tensors.head_input is not None
    for wrong in (tensors.head_input[:, :-1], -tensors.head_input.abs() - 1):
        bundle = store_home(moving, home, replace(tensors, head_input=wrong))
        with pytest.raises(Exception, match="head_input"):
            load_home(bundle)


def test_an_older_bundle_has_none_and_loads(calibrated: tuple[Bundle, Calibration], tmp_path: Path) -> None:
    bundle = Bundle.open(shutil.copytree(calibrated[0].path, tmp_path / "older"))
    home, tensors = bundle.manifest.home, load_home(bundle)
    assert home is not None
    older = store_home(
        bundle,
        home.model_copy(update={"features_distance": None}),
        HomeTensors(tensors.weights, tensors.mean, tensors.deviation),
    )
    assert load_head_input(older) is None
    assert open_realtime(older, OPTIONS).step(foggy(0), 0.0).opening == 0
