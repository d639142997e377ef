"""A network of more classes than 8 bits hold, from its checkpoint to files, scores and reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge.images import ColourOverlay, read_class_map
from ocl_edge_app.cli import run
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from tests.doubles import small_network
from tests.doubles.images import random_image

CLASSES = 700


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    directory = tmp_path_factory.mktemp("many")
    torch.manual_seed(0)
    network = small_network.SmallNetwork(CLASSES).eval()
    with torch.no_grad():
        network.classifier.weight.normal_()  # type: ignore[union-attr]
        network.classifier.bias[300:] += 3.0  # type: ignore[index]
    torch.save(network, directory / "net.pt")
    request = ExportRequest(
        directory / "net.pt", directory / "bundle", input_size=(48, 64), trust_pickle=True
    )
    return export_bundle(request)


def test_masks_have_sixteen_bits_in_every_mode(many: Bundle) -> None:
    image = random_image(0, 96, 128)
    options = SessionOptions("frozen", backend="torch", threads=1)
    with open_session(many, options) as session:
        frozen = session.step(image).mask
    assert (frozen.dtype, frozen.shape) == (np.uint16, (96, 128))
    assert frozen.max() > 255
    options = SessionOptions("ocl-head", threads=1, opening=1.0)
    for realtime in (None, RealtimeOptions(update="inline", adapt_every=1)):
        with open_session(many, options, realtime) as session:
            results = [session.step(random_image(seed, 96, 128)) for seed in range(2)]
        assert all(result.mask.dtype == np.uint16 for result in results)
        assert realtime or all(result.verdict.loss is not None for result in results)


def test_files_hold_the_classes_and_an_evaluation_finds_them_right(many: Bundle, tmp_path: Path) -> None:
    frames, labels = tmp_path / "frames", tmp_path / "labels"
    frames.mkdir()
    for index in range(2):
        Image.fromarray(random_image(index, 48, 64)).save(frames / f"{index}.png")
    page, sinks = tmp_path / "run.html", (f"masks:{labels}", f"overlay:{tmp_path / 'overlays'}")
    what = f"--source {frames} --mode frozen --backend torch --sink {sinks[0]} --sink {sinks[1]} -q"
    code = run(["run", str(many.path), *what.split(), "--html", str(page)])
    assert code == 0
    with Image.open(labels / "0.png") as image:
        assert image.mode.startswith("I")
    mask = read_class_map(labels / "0.png")
    assert (mask.dtype, int(mask.max()) > 255) == (np.uint16, True)
    palette = [c.colour for c in many.manifest.classes]
    expected = ColourOverlay(palette).over(random_image(0, 48, 64), mask)
    assert np.array_equal(np.array(Image.open(tmp_path / "overlays" / "0.png")), expected)
    results = tmp_path / "results.json"
    what = f"--frames {frames} --labels {labels} --views single --methods frozen --backend torch -q"
    code = run(["evaluate", str(many.path), *what.split(), "--json", str(results), "--html", str(page)])
    assert code == 0
    assert '"miou": 100.0' in results.read_text()


def test_what_was_learned_is_baked(many: Bundle, tmp_path: Path) -> None:
    frames, state = tmp_path / "frames", tmp_path / "state"
    frames.mkdir()
    for index in range(3):
        Image.fromarray(random_image(index, 48, 64)).save(frames / f"{index}.png")
    how = "--norm-every 2 --statistics-limit 9e9 --opening 1 --threads 1 -q"
    assert run(["run", str(many.path), *f"--source {frames} --state {state} {how}".split()]) == 0
    own = f"{small_network.__file__}:SmallNetwork:classes={CLASSES}"
    out = ["--out", str(tmp_path / "baked.pth"), "--arch", own, "--opening", "1", "-q"]
    assert run(["bake", str(many.path), "--state", str(state), *out]) == 0
    weights = torch.load(tmp_path / "baked.pth", weights_only=True)
    assert weights["classifier.weight"].shape[0] == CLASSES
