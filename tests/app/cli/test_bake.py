"""``ocl-edge bake``: what was learned, in the user's own network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ocl_edge.bundle.reading import Bundle
from ocl_edge.network.preprocess import Preprocessor
from ocl_edge_app.cli import run
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import SessionOptions
from tests.doubles import small_network
from tests.doubles.bundles import SMALL_ARCH
from tests.doubles.images import random_image

SIZE = (small_network.HEIGHT, small_network.WIDTH)


class WithSpareParts(small_network.SmallNetwork):
    """Its output depends on no weight of the second head."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Conv2d(6, 3, 1)


class Tied(small_network.SmallNetwork):
    """The head's bias works in the backbone, too: what is learned there cannot be taken out alone."""

    def forward(self, image: Tensor) -> Tensor:
        shift = self.classifier.bias[:3].reshape(1, 3, 1, 1)
        return super().forward(image + 5 * shift)


def build_with_spare_parts() -> nn.Module:
    return WithSpareParts()


def build_tied() -> nn.Module:
    return Tied()


def learn(bundle: Path, frames: Path, state: Path, *more: str) -> Path:
    """A run that learns from noise; the learned state's directory."""
    words = ["run", str(bundle), "--source", str(frames), "--state", str(state), "--quiet", "--lr", "0.2"]
    assert run([*words, "--norm-every", "2", "--statistics-limit", "9e9", "--threads", "1", *more]) == 0
    return state


@pytest.fixture(scope="module")
def state(small_bundle: Bundle, frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learn(small_bundle.path, frames, tmp_path_factory.mktemp("learned") / "state", "--opening", "1")


def bake(bundle: Bundle, state: Path, out: Path, *more: str) -> int:
    return run(["bake", str(bundle.path), "--state", str(state), "--out", str(out), *more])


def own_network(weights: Path) -> nn.Module:
    """The user's network, loaded as users do."""
    network = small_network.build()
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network.eval()


def masks(network: nn.Module, bundle: Bundle) -> np.ndarray:
    preprocessor = Preprocessor(bundle.manifest.input)
    views = [preprocessor.single(random_image(seed, *SIZE)).clone() for seed in range(3)]
    with torch.no_grad():
        return network(torch.cat(views)).argmax(1).numpy()


def test_the_users_network_gives_the_masks_of_the_session(
    small_bundle: Bundle, small_checkpoint: Path, state: Path, tmp_path: Path
) -> None:
    out = tmp_path / "adapted.pth"
    report = tmp_path / "bake.json"
    given = ("--arch", SMALL_ARCH, "--opening", "1", "--json", str(report))
    assert bake(small_bundle, state, out, *given) == 0
    said = json.loads(report.read_text(encoding="utf-8"))
    assert said["disagreement"] <= 1e-3
    assert {"classifier.weight", "stem_norm.running_mean", "join_norm.running_var"} <= set(said["changed"])
    assert "stem.weight" not in said["changed"]
    baked, original = (
        masks(own_network(out), small_bundle),
        masks(own_network(small_checkpoint), small_bundle),
    )
    assert np.mean(baked != original) > 0.01
    again = export_bundle(
        ExportRequest(out, tmp_path / "again", arch=SMALL_ARCH, input_size=SIZE, stat_rows=1)
    )
    with open_session(again, SessionOptions("frozen")) as frozen:
        seen = np.stack([frozen.predict(random_image(seed, *SIZE)) for seed in range(3)])
    assert np.mean(seen != baked) <= 1e-3


def test_the_norms_of_training_can_be_kept(small_bundle: Bundle, state: Path, tmp_path: Path) -> None:
    report, out = tmp_path / "bake.json", tmp_path / "adapted.pth"
    given = ("--arch", SMALL_ARCH, "--opening", "1", "--norms", "trained", "--json", str(report))
    assert bake(small_bundle, state, out, *given) == 0
    assert set(json.loads(report.read_text(encoding="utf-8"))["changed"]) == {
        "classifier.weight",
        "classifier.bias",
    }


def test_a_bundle_comes_out_with_the_same_input_and_classes(
    small_bundle: Bundle, state: Path, tmp_path: Path
) -> None:
    out = tmp_path / "adapted.ocl"
    assert bake(small_bundle, state, out, "--arch", SMALL_ARCH, "--opening", "1", "--quiet") == 0
    new, old = Bundle.open(out).manifest, small_bundle.manifest
    assert (new.input, new.classes, new.stat_rows, new.head_module) == (
        old.input,
        old.classes,
        old.stat_rows,
        old.head_module,
    )
    assert new.checkpoint_sha256 != old.checkpoint_sha256


def test_what_was_seen_at_home_is_the_trained_network(
    small_bundle: Bundle, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the opening 0 nothing is mixed and nothing was learned."""
    state = learn(small_bundle.path, frames, tmp_path / "state", "--opening", "0")
    out = tmp_path / "adapted.pth"
    # measured or not, the trained statistics count whole
    assert bake(small_bundle, state, out, "--arch", SMALL_ARCH, "--opening", "0", "--norms", "trained") == 0
    assert "nothing: the state is the trained network" in capsys.readouterr().out
    for name, tensor in small_network.trained().state_dict().items():
        assert torch.equal(torch.load(out, weights_only=True)[name], tensor) or name.endswith("tracked")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((), "Name it with --arch"),
        (("--arch", SMALL_ARCH), "saved by a run with --opening NUMBER"),
        (("--arch", f"{SMALL_ARCH}:classes=7", "--opening", "1"), "another shape"),
    ],
)
def test_what_is_missing_is_named(
    more: tuple[str, ...],
    words: str,
    small_bundle: Bundle,
    state: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert bake(small_bundle, state, tmp_path / "adapted.pth", *more) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "adapted.pth").exists()


def test_a_state_of_another_bundle_is_refused(
    sampled_bundle: Bundle, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--arch", SMALL_ARCH, "--opening", "1")
    assert bake(sampled_bundle, state, tmp_path / "adapted.pth", *given) == 1
    assert "the saved state is of bundle" in capsys.readouterr().err


def test_nothing_is_replaced_without_a_word(small_bundle: Bundle, state: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapted.pth"
    out.write_text("mine")
    assert bake(small_bundle, state, out, "--arch", SMALL_ARCH, "--opening", "1") == 2
    assert out.read_text() == "mine"
    assert bake(small_bundle, state, out, "--arch", SMALL_ARCH, "--opening", "1", "--force", "--quiet") == 0
    assert "stem.weight" in torch.load(out, weights_only=True)


@pytest.fixture
def export_of(tmp_path: Path, frames: Path):
    """Exports a network of this file and learns in it: bundle, checkpoint, state, arch."""

    def export(network: nn.Module, build: str) -> tuple[Bundle, Path, Path, str]:
        network.load_state_dict(small_network.trained().state_dict(), strict=False)
        checkpoint, arch = tmp_path / "own.pth", f"{__file__}:{build}"
        torch.save(network.state_dict(), checkpoint)
        bundle = export_bundle(ExportRequest(checkpoint, tmp_path / "own", arch=arch, input_size=SIZE))
        return bundle, checkpoint, learn(bundle.path, frames, tmp_path / "state", "--opening", "1"), arch

    return export


def test_parts_that_the_bundle_does_not_hold_come_from_the_checkpoint(
    export_of, small_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, checkpoint, state, arch = export_of(WithSpareParts(), "build_with_spare_parts")
    out, given = tmp_path / "adapted.pth", ("--arch", arch, "--opening", "1")
    assert bake(bundle, state, out, *given) == 1
    said = capsys.readouterr().err
    assert "second.weight" in said
    assert "--checkpoint" in said
    assert bake(bundle, state, out, *given, "--checkpoint", str(small_checkpoint)) == 1
    assert "is not the checkpoint of this bundle" in capsys.readouterr().err
    assert bake(bundle, state, out, *given, "--checkpoint", str(checkpoint)) == 0
    held = torch.load(checkpoint, weights_only=True)
    assert torch.equal(torch.load(out, weights_only=True)["second.weight"], held["second.weight"])


def test_a_network_that_would_give_other_masks_is_not_written(
    export_of, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, _, state, arch = export_of(Tied(), "build_tied")
    assert bake(bundle, state, tmp_path / "adapted.pth", "--arch", arch, "--opening", "1") == 1
    assert "another class than the session" in capsys.readouterr().err
    assert not (tmp_path / "adapted.pth").exists()
