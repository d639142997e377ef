"""RGB and depth: a network of four channels, by every verb."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import ocl_edge
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import FrameError
from ocl_edge.images import read_image
from ocl_edge_app.cli import run
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions

MEAN, STD = (0.5, 0.4, 0.3, 0.2), (0.25, 0.2, 0.15, 0.1)


class WithDepth(nn.Module):
    """Its head stands before its stem; it looks at the fourth channel above all."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(8, 5, 1)
        self.stem, self.norm = nn.Conv2d(4, 8, 3, 2, 1), nn.BatchNorm2d(8)
        with torch.no_grad():
            self.stem.weight[:, 3] *= 5

    def forward(self, image: Tensor) -> Tensor:
        features = self.norm(self.stem(image)).relu()
        return F.interpolate(self.head(features), image.shape[2:], mode="bilinear", align_corners=False)


def build() -> nn.Module:
    torch.manual_seed(3)
    return WithDepth().eval()


def pixels(seed: int, channels: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 64, channels), dtype=np.uint8)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("depth")
    (directory / "frames").mkdir()
    for index in range(6):
        Image.fromarray(pixels(index)).save(directory / "frames" / f"{index}.png")
    torch.save(build().state_dict(), directory / "net.pth")
    numbers = [",".join(map(str, values)) for values in (MEAN, STD)]
    code = run(
        [
            *("export", str(directory / "net.pth"), "--arch", f"{__file__}:build", "--input-size", "48x64"),
            *("--mean", numbers[0], "--std", numbers[1], "--calibration", str(directory / "frames"), "-q"),
            *("--out", str(directory / "bundle")),
        ]
    )
    assert code == 0
    return directory


def expected_mask(image: np.ndarray) -> np.ndarray:
    mean, std = (torch.tensor(values).view(1, 4, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        logits = build()((torch.from_numpy(image).permute(2, 0, 1)[None] / 255 - mean) / std)
    return np.asarray(logits.argmax(1)[0].numpy())


def test_files_of_four_channels_give_pytorchs_masks(world: Path, tmp_path: Path) -> None:
    masks, overlays = tmp_path / "masks", tmp_path / "overlays"
    where = ["--source", str(world / "frames"), "--sink", f"masks:{masks}", "--sink", f"overlay:{overlays}"]
    page = ["--html", str(tmp_path / "run.html")]
    assert run(["run", str(world / "bundle"), "--mode", "frozen", "-q", *where, *page]) == 0
    for index in range(6):
        with Image.open(masks / f"{index}.png") as mask:
            assert np.mean(np.array(mask) != expected_mask(pixels(index))) <= 1e-3
        with Image.open(overlays / f"{index}.png") as overlay:
            assert overlay.mode == "RGB"


def test_every_verb_takes_them(world: Path, tmp_path: Path) -> None:
    bundle, frames = str(world / "bundle"), str(world / "frames")
    labels = tmp_path / "labels"
    labels.mkdir()
    for index in range(6):
        Image.fromarray(expected_mask(pixels(index)).astype(np.uint8)).save(labels / f"{index}.png")
    scored = ["--labels", str(labels), "--methods", "frozen", "--views", "single", "--json"]
    assert run(["evaluate", bundle, "--frames", frames, *scored, str(tmp_path / "out.json"), "-q"]) == 0
    assert json.loads((tmp_path / "out.json").read_text())["rows"][0]["miou"] > 99
    assert run(["profile", bundle, "--frames", "2", "--json", str(tmp_path / "profile.json"), "-q"]) == 0
    assert run(["calibrate", bundle, "--frames", frames, "-q"]) == 0
    opened = Bundle.open(bundle)
    for realtime in (None, RealtimeOptions(update="inline")):
        options = SessionOptions("ocl-head", lr=0.01, threads=1, opening=1.0)
        with open_session(opened, options, realtime) as session:
            session.warm_up()
            results = [session.step(pixels(seed)) for seed in (7, 8)]
        assert all(result.mask.shape == (48, 64) for result in results)
        assert realtime or all(result.verdict.applied for result in results)


@pytest.mark.parametrize("shape", [(48, 64, 3), (48, 64), (48, 64, 5)])
def test_arrays_of_other_channels_are_refused(world: Path, shape: tuple[int, ...]) -> None:
    with ocl_edge.open(str(world / "bundle")) as session, pytest.raises(FrameError, match=r"\[H, W, 4\]"):
        session.predict(np.zeros(shape, np.uint8))


def test_a_file_without_the_fourth_channel_is_named(world: Path) -> None:
    Image.fromarray(pixels(0, 3)).save(world / "flat.png")
    with pytest.raises(FrameError, match="takes 4 channels, this image has mode 'RGB'"):
        read_image(world / "flat.png", 4)
    with pytest.raises(FrameError, match=r"takes 6 channels.*at most 4: hand arrays to `predict`"):
        read_image(world / "flat.png", 6)


@pytest.mark.parametrize("compared_on", ["frames", "noise"])
def test_what_was_learned_is_baked(world: Path, tmp_path: Path, compared_on: str) -> None:
    where, state = f"--source {world / 'frames'}", f"--state {tmp_path / 'state'}"
    how = "--norm-every 2 --statistics-limit 9e9 --opening 1 --threads 1 -q"
    assert run(["run", str(world / "bundle"), *f"{where} {state} {how}".split()]) == 0
    more = ["--frames", str(world / "frames")] if compared_on == "frames" else []
    out = ["--out", str(tmp_path / "baked.pth"), "--arch", f"{__file__}:build", "--opening", "1", *more]
    assert run(["bake", str(world / "bundle"), *state.split(), *out, "-q"]) == 0
    build().load_state_dict(torch.load(tmp_path / "baked.pth", weights_only=True))
