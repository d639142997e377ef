"""A network without BatchNorm: nothing to modulate, and the head adapts all the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import UsageError
from ocl_edge.network.form_names import FORMS
from ocl_edge.network.tail import Tail
from ocl_edge_app.cli import run
from ocl_edge_export.form_inputs import inputs_of_form
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_runtime.backends import open_backend
from ocl_edge_runtime.records.state import StateStore
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from tests.doubles import small_network
from tests.doubles.bundles import SMALL_ARCH
from tests.doubles.images import random_image

BACKENDS = ("torch", "onnxruntime", "openvino")
HEIGHT, WIDTH = small_network.HEIGHT, small_network.WIDTH


@pytest.fixture(scope="module")
def network() -> small_network.WithoutBatchNorm:
    torch.manual_seed(0)
    network = small_network.WithoutBatchNorm().eval()
    with torch.no_grad():
        network.classifier.weight.mul_(4)
        network.classifier.bias.sub_(network(torch.randn(8, 3, HEIGHT, WIDTH)).mean((0, 2, 3)))
    return network


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, network: small_network.WithoutBatchNorm) -> Bundle:
    directory = tmp_path_factory.mktemp("group_norm")
    torch.save(network.state_dict(), directory / "network.pth")
    arch = f"{SMALL_ARCH}_without_batch_norm"
    return export_bundle(
        ExportRequest(directory / "network.pth", directory / "bundle", arch, input_size=(HEIGHT, WIDTH))
    )


def backend_or_skip(name: str) -> str:
    pytest.importorskip(name)
    return name


@torch.no_grad()
def mask_of(network: small_network.WithoutBatchNorm, views: Tensor) -> np.ndarray:
    """Of one view, or of the image and its flip, averaged."""
    logits = network.classifier(network.body(views))
    averaged = logits[:1] if len(views) == 1 else (logits[:1] + logits[1:].flip(3)) / 2
    mask = Tail(False, None).mask(averaged, HEIGHT, WIDTH)
    assert len(np.unique(mask)) > 2
    return mask


def test_every_form_is_the_plain_one(bundle: Bundle) -> None:
    assert bundle.manifest.norms == ()
    assert {tuple(t.name for t in spec.inputs) for spec in bundle.manifest.forms.values()} == {("image",)}
    assert list(bundle.manifest.parity["forms"]) == list(FORMS)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_equals_pytorch(
    bundle: Bundle, network: small_network.WithoutBatchNorm, name: str, form: str
) -> None:
    backend = open_backend(bundle, backend_or_skip(name), 1).backend
    image = torch.randn(2, 3, HEIGHT, WIDTH)
    outputs = backend.infer(form, inputs_of_form(bundle, form, image))  # type: ignore[arg-type]
    assert list(outputs) == ["features_0"]
    with torch.no_grad():
        assert torch.allclose(outputs["features_0"], network.body(image), atol=2e-5)
    backend.close()


@pytest.mark.parametrize(
    ("method", "name"), [*(("ocl-head", name) for name in BACKENDS), ("ocl-full", "torch")]
)
def test_paper_mode_gives_pytorchs_mask_and_learns(
    bundle: Bundle, network: small_network.WithoutBatchNorm, method: str, name: str
) -> None:
    session = open_session(
        bundle, SessionOptions(method, backend=backend_or_skip(name), threads=1, lr=0.1, opening=1.0)
    )
    image = random_image(0, HEIGHT, WIDTH)
    result = session.step(image)
    assert np.array_equal(result.mask, mask_of(network, session.segmenter.preprocessor.pair(image)))
    assert result.verdict.applied
    assert session.weights.distance_from_trained() > 0
    session.close()


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("options", [{}, {"norm_every": None, "period_s": 1e9}, {"update": "background"}])
def test_realtime_mode_gives_pytorchs_mask_and_learns(
    bundle: Bundle,
    network: small_network.WithoutBatchNorm,
    tmp_path: Path,
    name: str,
    options: dict[str, object],
) -> None:
    session = open_session(
        bundle,
        SessionOptions(backend=backend_or_skip(name), threads=1, opening=1.0),
        RealtimeOptions(**options),
    )
    session.warm_up()
    image = random_image(0, HEIGHT, WIDTH)
    result = session.step(image)
    assert np.array_equal(result.mask, mask_of(network, session.segmenter.preprocessor.single(image)))
    session.settle()
    assert session.updates.learner.weights.distance_from_trained() > 0
    store = StateStore(tmp_path / "state", session)
    store.save()
    assert store.resume("refuse") == "resumed after frame 0"
    session.close()


@pytest.mark.parametrize("method", ["ocl-norm", "tent"])
def test_a_method_of_the_norms_alone_is_refused(bundle: Bundle, method: str) -> None:
    with pytest.raises(UsageError, match=f"{method} trains weight and bias of BatchNorm layers"):
        open_session(bundle, SessionOptions(method, opening=1.0))


@pytest.mark.parametrize("arguments", [[], ["--norm-every", "auto"], ["--mode", "paper", "--prior", "0.7"]])
def test_the_command_line_runs_it(bundle: Bundle, frames: Path, arguments: list[str]) -> None:
    assert run(["run", str(bundle.path), "--source", str(frames), "--quiet", *arguments]) == 0


def test_inspect_says_that_there_are_none(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(bundle.path)]) == 0
    assert "none: only the head adapts" in capsys.readouterr().out
