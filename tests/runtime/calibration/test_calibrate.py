"""A bundle that was calibrated: what it knows, and what sessions make of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ocl_edge.bundle.home import HomeTensors, load_home, load_mixing, store_home
from ocl_edge.bundle.manifest_parts import LEARNED, HeadRate, HomeSpec
from ocl_edge.bundle.reading import Bundle, load_norms
from ocl_edge.errors import BundleError
from ocl_edge.method.guard import GuardLimits
from ocl_edge.method.home import HOME_UNTIL, HomeDistances, SensingNorms
from ocl_edge.method.mixing import Mixing
from ocl_edge.method.norms import DEFAULT_PRIOR
from ocl_edge.method.shares import FULLNESSES
from ocl_edge.method.verdict import Reason
from ocl_edge_export.convert import convert_bundle
from ocl_edge_runtime.calibration import learning
from ocl_edge_runtime.calibration.calibrate import calibrate_bundle
from ocl_edge_runtime.calibration.corruptions import CORRUPTIONS
from ocl_edge_runtime.calibration.findings import LEAST_GAIN, Calibration
from ocl_edge_runtime.calibration.frames import FEW_FRAMES, GivenFrames, find_frames
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import SessionOptions
from ocl_edge_runtime.session.setup import notes_on
from tests.doubles.bundles import unpack_old
from tests.doubles.clock import SimulatedClock
from tests.doubles.home_frames import home_frame, write_frames
from tests.doubles.images import random_image
from tests.doubles.sessions import ANY

Copier = Callable[[Bundle], Bundle]
OPTIONS = SessionOptions(backend="onnxruntime", threads=1)


SURE_FROM = "ocl_edge_runtime.calibration.measuring.SURE_FROM"


@pytest.fixture(scope="module", autouse=True)
def sure_from_what_the_small_network_reaches() -> Iterator[None]:
    """It is sure of little: of five classes the strongest has 0.4. And few steps take little time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SURE_FROM, 0.4)
        patch.setattr(learning, "STEPS", 8)
        yield


@pytest.fixture(scope="module")
def home_frames(tmp_path_factory: pytest.TempPathFactory) -> GivenFrames:
    directory = tmp_path_factory.mktemp("home") / "frames"
    return find_frames(write_frames(directory, [home_frame(seed) for seed in range(FEW_FRAMES)]))


@pytest.fixture(scope="module")
def calibrated(
    small_bundle: Bundle, home_frames: GivenFrames, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Bundle, Calibration]:
    copy = shutil.copytree(small_bundle.path, tmp_path_factory.mktemp("calibrated") / "bundle")
    return calibrate_bundle(Bundle.open(copy), home_frames, "onnxruntime", 1)


@pytest.fixture
def copy_of(tmp_path: Path) -> Copier:
    return lambda bundle: Bundle.open(shutil.copytree(bundle.path, tmp_path / "copy"))


def with_head(bundle: Bundle, head: HeadRate | None) -> Bundle:
    """The same bundle, as if home frames had found this rate."""
    home = bundle.manifest.home
    assert home is not None
    manifest = bundle.manifest.model_copy(update={"home": home.model_copy(update={"head": head})})
    return replace(bundle, manifest=manifest)


def test_home_frames_are_found_at_home(
    calibrated: tuple[Bundle, Calibration], home_frames: GivenFrames
) -> None:
    bundle, found = calibrated
    home, norms = bundle.manifest.home, load_norms(bundle)
    assert home is not None
    assert home.at_home
    assert home.frames == len(home_frames) == len(found.distances)
    channels = [norm.channels for norm in bundle.manifest.norms]
    sensing = SensingNorms(norms.statistics, channels, bundle.manifest.sensing_norms)
    statistics = load_home(bundle)
    assert sensing.distance(statistics.mean) < max(found.distances) < HOME_UNTIL
    assert found.openings == [0.0] * len(home_frames)
    assert max(opening for copies in found.copies.values() for _, opening in copies) > 0.9
    assert home.head is not None
    assert home.home_distances is not None
    assert 0 < home.distance.low <= home.distance.median <= home.distance.high


def test_the_statistics_of_home_are_those_of_the_frames(
    calibrated: tuple[Bundle, Calibration], home_frames: GivenFrames
) -> None:
    bundle, _ = calibrated
    seen = []
    with open_session(bundle, replace(OPTIONS, opening=0.0), ANY, SimulatedClock()) as session:
        for index in range(len(home_frames)):
            image = session.segmenter.preprocessor.single(home_frames.read(index))
            outputs = session.segmenter.backbone.infer(
                "measured",
                {"image": image, **session.norms.openness.anchor()},  # type: ignore[union-attr]
            )
            seen.append(outputs["statistics"].numpy().copy())
    found = load_home(bundle)
    assert np.allclose(found.mean, np.mean(seen, 0), atol=1e-5)
    assert np.allclose(found.deviation, np.std(seen, 0), atol=1e-5)


def test_the_same_frames_give_the_same_bundle(
    calibrated: tuple[Bundle, Calibration], home_frames: GivenFrames, copy_of: Copier
) -> None:
    bundle, _ = calibrated
    again, _ = calibrate_bundle(copy_of(bundle), home_frames, "onnxruntime", 1)
    assert again.identity == bundle.identity
    assert sorted(f.name for f in again.path.iterdir()) == sorted(f.name for f in bundle.path.iterdir())


def test_progress_names_every_stage(small_bundle: Bundle, home_frames: GivenFrames, copy_of: Copier) -> None:
    stages: list[str] = []
    calibrate_bundle(copy_of(small_bundle), home_frames, "onnxruntime", 1, stages.append)
    words = ["frames", "copies", "others", *("of 8",) * learning.TOLD, "opening", "copies", "bundle"]
    assert [stage.endswith(word) for stage, word in zip(stages, words, strict=True)] == [True] * len(words)


def test_few_frames_settle_neither_the_opening_nor_the_head(
    small_bundle: Bundle, tmp_path: Path, copy_of: Copier
) -> None:
    few = find_frames(write_frames(tmp_path / "few", [home_frame(s) for s in range(FEW_FRAMES - 1)]))
    bundle, found = calibrate_bundle(copy_of(small_bundle), few, "onnxruntime", 1)
    home = bundle.manifest.home
    assert home is not None
    assert home.at_home
    assert (home.home_distances, home.jump, home.head) == (None,) * 3
    assert home.copies_distances is not None
    assert any("as without calibration" in note for note in found.notes)
    session = open_session(bundle, OPTIONS, ANY, SimulatedClock())
    assert session.setup.settings.lr == small_bundle.manifest.adaptation.lr


def test_frames_of_elsewhere_are_said_and_change_nothing_but_the_weights(
    small_bundle: Bundle, tmp_path: Path, copy_of: Copier
) -> None:
    elsewhere = find_frames(write_frames(tmp_path / "frames", [random_image(seed) for seed in range(20)]))
    bundle, found = calibrate_bundle(copy_of(small_bundle), elsewhere, "onnxruntime", 1)
    home = bundle.manifest.home
    assert home is not None
    assert "not the network's home" in found.notes[0]
    assert not home.at_home
    assert (home.home_distances, home.jump, home.head, home.copies_distances) == (None,) * 4
    session = open_session(bundle, OPTIONS, ANY, SimulatedClock())
    assert session.setup.trains
    assert session.setup.settings.lr == small_bundle.manifest.adaptation.lr


def test_frames_of_mixed_sizes_are_measured(small_bundle: Bundle, tmp_path: Path, copy_of: Copier) -> None:
    pictures = [home_frame(seed, 48 + 16 * (seed % 2), 64) for seed in range(6)]
    mixed = find_frames(write_frames(tmp_path / "frames", pictures))
    bundle, found = calibrate_bundle(copy_of(small_bundle), mixed, "onnxruntime", 1)
    assert bundle.manifest.home is not None
    assert bundle.manifest.home.frames == 6
    assert any("2 sizes" in note for note in found.notes)


def test_a_network_that_is_unsure_everywhere_keeps_its_weights(
    small_bundle: Bundle,
    home_frames: GivenFrames,
    copy_of: Copier,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SURE_FROM, 1.0)
    bundle, found = calibrate_bundle(copy_of(small_bundle), home_frames, "onnxruntime", 1)
    assert bundle.manifest.home is not None
    assert not bundle.manifest.home.fitted
    assert bundle.manifest.home.head is None
    assert load_mixing(bundle) is None
    assert any("sure of 0.0 %" in note for note in found.notes)


def test_a_converted_bundle_learns_home_and_keeps_its_weights(
    home_frames: GivenFrames, tmp_path: Path
) -> None:

    old = convert_bundle(unpack_old(tmp_path), tmp_path / "new", trust_pickle=True)
    assert old.manifest.weight_rows == 1
    norms = tuple(n.model_copy(update={"sensing": i == 0}) for i, n in enumerate(old.manifest.norms))
    bundle, found = calibrate_bundle(
        replace(old, manifest=old.manifest.model_copy(update={"norms": norms})), home_frames, "onnxruntime", 1
    )
    assert bundle.manifest.home is not None
    assert not bundle.manifest.home.fitted
    assert any("converted" in note for note in found.notes)
    open_session(bundle, OPTIONS, ANY, SimulatedClock()).step(random_image(0), 0.0)


def test_a_network_whose_norms_all_stand_behind_others_is_refused_and_told_what_happens(
    small_bundle: Bundle, home_frames: GivenFrames
) -> None:
    norms = tuple(norm.model_copy(update={"sensing": False}) for norm in small_bundle.manifest.norms)
    blind = replace(small_bundle, manifest=small_bundle.manifest.model_copy(update={"norms": norms}))
    with pytest.raises(BundleError, match="stays frozen"):
        calibrate_bundle(blind, home_frames, "onnxruntime", 1)


@pytest.mark.parametrize("opening", [0.4, 1.0])
def test_a_session_mixes_as_it_was_fitted_in_both_forms(
    calibrated: tuple[Bundle, Calibration], copy_of: Copier, opening: float
) -> None:
    """The measured form's features and the modulated form's, with vectors of the same statistics."""
    home, tensors = stored(calibrated[0])
    weights = torch.rand(tensors.weights.shape, generator=torch.Generator().manual_seed(0))
    fits = home.model_copy(update={"fullness": 0.6})
    bundle = store_home(copy_of(calibrated[0]), fits, replace(tensors, weights=weights))
    session = open_session(bundle, replace(OPTIONS, opening=opening, method="norm"), ANY, SimulatedClock())
    session.predict(random_image(0), 0.0)
    view = session.segmenter.preprocessor.single(random_image(0))
    measured = session.segmenter.backbone.infer("measured", {"image": view, **session.norms.anchor})  # type: ignore[attr-defined]
    features = measured["features_0"].clone()
    modulated = session.segmenter.backbone.infer(
        "modulated", {"image": view, "norm_vectors": session.norms.vectors}
    )  # type: ignore[attr-defined]
    assert torch.allclose(features, modulated["features_0"], atol=1e-4)
    norms, statistics = load_norms(bundle), measured["statistics"]
    share = opening * (1 - weights)
    mean = (1 - share[0]) * norms.mean + share[0] * statistics[0]
    var = (1 - share[1]) * norms.var + share[1] * statistics[1]
    var += share[0] * (1 - share[0]) * (statistics[0] - norms.mean) ** 2
    assert torch.allclose(session.norms.mixed, torch.stack((mean, var)), atol=1e-5)  # type: ignore[attr-defined]


def test_a_prior_that_is_asked_for_takes_the_place_of_the_fitted_weights(
    small_bundle: Bundle, calibrated: tuple[Bundle, Calibration]
) -> None:
    options = replace(OPTIONS, opening=1.0, method="norm", prior=0.5)
    masks = [
        open_session(bundle, options, ANY, SimulatedClock()).predict(random_image(0), 0.0)
        for bundle in (small_bundle, calibrated[0])
    ]
    assert np.array_equal(*masks)


def test_a_head_that_earns_nothing_stays_as_trained(calibrated: tuple[Bundle, Calibration]) -> None:
    bundle = with_head(calibrated[0], HeadRate(lr=0.0, gains={"haze": -1.0}))
    off = open_session(bundle, replace(OPTIONS, opening=1.0), ANY, SimulatedClock())
    verdicts = [off.step(random_image(index), float(index)).verdict.reason for index in range(3)]
    assert verdicts == [Reason.NOTHING_TRAINS] * 3
    assert off.weights.distance_from_trained() == 0
    assert "stays as trained" in notes_on(bundle, OPTIONS)[0]
    asked = open_session(bundle, replace(OPTIONS, opening=1.0, lr=0.01), ANY, SimulatedClock())
    assert asked.step(random_image(0), 0.0).verdict.applied
    assert notes_on(bundle, replace(OPTIONS, lr=0.01)) == []


def test_a_head_learns_at_the_rate_that_was_found(calibrated: tuple[Bundle, Calibration]) -> None:
    bundle = with_head(calibrated[0], HeadRate(lr=0.003, gains={"haze": 1.0}))
    assert open_session(bundle, OPTIONS, ANY, SimulatedClock()).setup.settings.lr == 0.003
    tent = replace(OPTIONS, method="tent-head")
    assert open_session(bundle, tent, ANY, SimulatedClock()).setup.settings.lr == 0.005


@pytest.mark.parametrize(("reached", "limit"), [(3.0, 9.0), (1.1, 2.0), (None, GuardLimits().entropy_ratio)])
def test_the_guard_lets_the_entropy_go_as_far_again_as_on_copies(
    calibrated: tuple[Bundle, Calibration], reached: float | None, limit: float
) -> None:
    bundle = with_head(calibrated[0], HeadRate(lr=0.003, gains={"haze": 1.0}, entropy_ratio=reached))
    session = open_session(bundle, OPTIONS, ANY, SimulatedClock())
    assert session.updates.learner.guard.limits == GuardLimits(entropy_ratio=limit)  # type: ignore[attr-defined]
    assert session.facts()["realtime"]["limits"]["entropy_ratio"] == limit
    asked = replace(ANY, limits=GuardLimits(entropy_ratio=1.5))
    session = open_session(bundle, OPTIONS, asked, SimulatedClock())
    assert session.updates.learner.guard.limits.entropy_ratio == 1.5  # type: ignore[attr-defined]


def test_without_home_frames_a_run_says_what_they_would_give(small_bundle: Bundle) -> None:
    assert "ocl-edge calibrate" in notes_on(small_bundle, OPTIONS)[0]
    assert notes_on(small_bundle, replace(OPTIONS, opening=1.0)) == []


def test_both_distances_must_say_away(
    calibrated: tuple[Bundle, Calibration], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first norms say far away; the session opens as far as all norms agree."""
    bundle, _ = calibrated
    monkeypatch.setattr(SensingNorms, "distance", lambda _self, _statistics: 9.0)
    for frame, opens in ((home_frame(100), False), (random_image(0), True)):
        session = open_session(bundle, OPTIONS, ANY, SimulatedClock())
        for moment in range(3):
            session.predict(frame, float(moment))
        assert (session.norms.openness.value > 0) is opens  # type: ignore[union-attr]


def test_a_calibration_shows_the_openings_of_a_session_that_is_shut(
    small_bundle: Bundle, copy_of: Copier, home_frames: GivenFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        HomeDistances, "openings_at", lambda _self, _statistics, opening: (0.0, 0.7 - opening)
    )
    found = calibrate_bundle(copy_of(small_bundle), home_frames, "onnxruntime", 1)[1]
    assert found.openings == [0.7] * len(home_frames)


def stored(bundle: Bundle) -> tuple[HomeSpec, HomeTensors]:
    assert bundle.manifest.home is not None
    return bundle.manifest.home, load_home(bundle)


def test_a_file_of_home_that_was_changed_is_refused(
    calibrated: tuple[Bundle, Calibration], copy_of: Copier
) -> None:
    bundle = copy_of(calibrated[0])
    home, tensors = stored(bundle)
    with (bundle.path / home.file).open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\0")
    with pytest.raises(BundleError, match="was changed after export"):
        Bundle.open(bundle.path)
    (bundle.path / home.file).unlink()
    with pytest.raises(BundleError, match="is missing"):
        Bundle.open(bundle.path)
    assert tensors.weights.min() >= 0


@pytest.mark.parametrize("name", ["weights", "mean", "deviation"])
def test_tensors_of_home_that_make_no_sense_are_refused(
    calibrated: tuple[Bundle, Calibration], copy_of: Copier, name: str
) -> None:
    home, tensors = stored(calibrated[0])
    bad = {"weights": torch.tensor(1.5), "mean": torch.tensor(torch.nan), "deviation": torch.tensor(-1.0)}[
        name
    ]
    wrong = replace(tensors, **{name: torch.where(torch.ones_like(tensors.mean) > 0, bad, tensors.mean)})
    bundle = store_home(copy_of(calibrated[0]), home, wrong)
    with pytest.raises(BundleError, match=name):
        load_home(bundle)


def test_calibrating_again_replaces_what_was_known_and_keeps_engines(
    calibrated: tuple[Bundle, Calibration], copy_of: Copier
) -> None:
    bundle = copy_of(calibrated[0])
    (bundle.path / "engines").mkdir()
    home, tensors = stored(bundle)
    again = store_home(bundle, home, replace(tensors, mean=tensors.mean + 1))
    assert again.identity != bundle.identity
    assert len(list(again.path.glob("home.*"))) == 1
    assert (again.path / "engines").is_dir()
    assert torch.equal(load_home(again).mean, tensors.mean + 1)


def test_where_the_manifest_cannot_be_written_the_bundle_is_as_it_was(
    calibrated: tuple[Bundle, Calibration],
    copy_of: Copier,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle = copy_of(calibrated[0])
    home, tensors = stored(bundle)
    from ocl_edge import durable
    from ocl_edge.errors import OutputError

    def full(path: Path, text: str) -> None:
        raise OutputError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(durable, "write_text", full)
    with pytest.raises(BundleError, match=r"No space left.*as it was"):
        store_home(bundle, home, replace(tensors, mean=tensors.mean + 1))
    assert Bundle.open(bundle.path).identity == bundle.identity


def test_a_bundle_of_links_is_not_written(calibrated: tuple[Bundle, Calibration], tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    for file in calibrated[0].path.iterdir():
        (links / file.name).symlink_to(file)
    bundle = Bundle.open(links)
    with pytest.raises(BundleError, match="cp -rL"):
        store_home(bundle, *stored(bundle))


def test_the_mixing_that_agrees_best_on_copies_of_other_frames_is_taken(
    calibrated: tuple[Bundle, Calibration],
) -> None:
    _, found = calibrated
    gains = [[values[i] - values[0] for values in found.agreement.values()] for i in (1, 2, 3)]
    means = [sum(each) / len(each) for each in gains]
    fair = [mean if min(each) >= -2 * mean else 0.0 for mean, each in zip(means, gains, strict=True)]
    best = [*FULLNESSES, LEARNED][fair.index(max(fair))]
    assert found.home.fullness == (best if max(fair) >= LEAST_GAIN else 0)
    weights = found.tensors.weights
    line = Mixing.of_prior([n.channels for n in calibrated[0].manifest.norms], DEFAULT_PRIOR).weights
    assert torch.equal(weights, line) is (found.home.fullness == 0)


def test_a_fit_that_wins_is_taken(
    small_bundle: Bundle, home_frames: GivenFrames, copy_of: Copier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under contrast alone the fit wins."""
    alone = {"contrast": CORRUPTIONS["contrast"]}
    for module in ("copies", "learning", "with_norms"):
        monkeypatch.setattr(f"ocl_edge_runtime.calibration.{module}.CORRUPTIONS", alone)
    bundle, found = calibrate_bundle(copy_of(small_bundle), home_frames, "onnxruntime", 1)
    line, *fitted = found.agreement["contrast"]
    assert max(fitted) > line
    assert found.home.fullness == [*FULLNESSES, LEARNED][fitted.index(max(fitted))]
    mixing = load_mixing(bundle)
    assert mixing is not None
    assert mixing.between
    assert torch.equal(mixing.weights, found.tensors.weights)


def test_a_fit_that_gains_too_little_is_not_taken(
    small_bundle: Bundle, home_frames: GivenFrames, copy_of: Copier, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = {"contrast": CORRUPTIONS["contrast"]}
    for module in ("copies", "learning", "with_norms"):
        monkeypatch.setattr(f"ocl_edge_runtime.calibration.{module}.CORRUPTIONS", alone)
    monkeypatch.setattr("ocl_edge_runtime.calibration.mixing_choice.LEAST_GAIN", 100.0)
    bundle, found = calibrate_bundle(copy_of(small_bundle), home_frames, "onnxruntime", 1)
    assert load_mixing(bundle) is None
    assert any("gained too little" in note for note in found.notes)


def test_a_network_without_a_gradient_is_fitted_and_that_is_said(
    small_bundle: Bundle, home_frames: GivenFrames, copy_of: Copier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "MOST_BYTES", 0)
    bundle, found = calibrate_bundle(copy_of(small_bundle), home_frames, "onnxruntime", 1)
    assert any("not learned: a gradient" in note for note in found.notes)
    assert found.tried == ("default prior", *(f"fitted, {fullness:g}" for fullness in FULLNESSES))
    assert bundle.manifest.home is not None
