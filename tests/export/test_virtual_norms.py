"""Norms that remember home, behind layers that remember nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from ocl_edge.bundle.reading import Bundle
from ocl_edge.network.batch_norms import list_norms, trained_tensors
from ocl_edge.network.forms import build_form
from ocl_edge_export.capture import capture
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_export.sensing import which_norms_sense
from ocl_edge_export.split import split_network
from ocl_edge_export.virtual_norms import give_virtual_norms
from ocl_edge_runtime.calibration.calibrate import calibrate_bundle
from ocl_edge_runtime.calibration.frames import find_frames
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import SessionOptions
from tests.doubles.bundles import SMALL_ARCH
from tests.doubles.clock import SimulatedClock
from tests.doubles.home_frames import home_frame, write_frames
from tests.doubles.sessions import ANY
from tests.doubles.small_network import HEIGHT, WIDTH, WithoutBatchNorm

CLASSES, CHANNELS = 5, 8


class Tokens(nn.Module):
    """LayerNorms over tokens [N, T, F] and over images whose channels are last, [N, h, w, F]."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, CHANNELS, 4, 4)
        self.first, self.second, self.last = (nn.LayerNorm(CHANNELS) for _ in range(3))
        self.mixing, self.again = nn.Linear(CHANNELS, CHANNELS), nn.Linear(CHANNELS, CHANNELS)
        self.classifier = nn.Conv2d(CHANNELS, CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image)
        tokens = self.mixing(F.gelu(self.first(x.flatten(2).transpose(1, 2))))
        placed = tokens.reshape(x.shape[0], *x.shape[2:], CHANNELS)
        last = self.last(self.again(self.second(placed)))
        logits = self.classifier(last.permute(0, 3, 1, 2))
        return F.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=False)


class MoreBatchNorms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.GroupNorm(2, 8), nn.BatchNorm2d(8), nn.ReLU())
        self.classifier = nn.Conv2d(8, CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        logits = self.classifier(self.body(image))
        return F.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=False)


def backbone_of(network: nn.Module) -> fx.GraphModule:
    return split_network(capture(network.eval(), HEIGHT, WIDTH)).backbone


def views(count: int) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(1, 3, HEIGHT, WIDTH) * (1 + 0.1 * index) for index in range(count)]


@pytest.mark.parametrize(("network", "layers"), [(Tokens, 3), (WithoutBatchNorm, 2)])
def test_nothing_changes_at_home(network: Callable[[], nn.Module], layers: int) -> None:
    torch.manual_seed(0)
    backbone, image = backbone_of(network()), torch.randn(2, 3, HEIGHT, WIDTH)
    with torch.no_grad():
        before = backbone(image)[0]
        assert give_virtual_norms(backbone, views(3)) == layers
        assert torch.allclose(backbone(image)[0], before, atol=1e-5)
        trained = trained_tensors(backbone)
        statistics = torch.stack((trained["mean"], trained["var"]))
        shut = torch.cat((torch.ones_like(statistics), torch.zeros(1, statistics.shape[1])))
        measured = build_form(backbone, "measured", 1)
        assert torch.allclose(measured(image, statistics, shut)[0], before, atol=1e-5)
    assert [norm.name for norm in list_norms(backbone)] == [f"virtual_norm_{n}" for n in range(layers)]
    assert which_norms_sense(backbone) == [True, *[False] * (layers - 1)]


def test_home_is_what_its_frames_show_channel_by_channel() -> None:
    torch.manual_seed(0)
    network, frames = Tokens().eval(), views(4)
    backbone = backbone_of(network)
    give_virtual_norms(backbone, frames)
    with torch.no_grad():
        seen = [network.first(network.patches(f).flatten(2).transpose(1, 2))[0] for f in frames]
    trained = trained_tensors(backbone)
    mean, var = (torch.stack([getattr(s, what)(0) for s in seen]).mean(0) for what in ("mean", "var"))
    assert torch.allclose(trained["mean"][:CHANNELS], mean, atol=1e-5)
    assert torch.allclose(trained["var"][:CHANNELS], var, atol=1e-5)
    assert torch.allclose(trained["weight"], trained["var"].sqrt())
    assert torch.equal(trained["bias"], trained["mean"])


def test_wide_open_the_channels_are_moved_home() -> None:
    """With the frame's own statistics alone, what comes out has the mean and variance of home."""
    torch.manual_seed(0)
    backbone = backbone_of(Tokens())
    give_virtual_norms(backbone, views(3))
    trained = trained_tensors(backbone)
    statistics = torch.stack((trained["mean"], trained["var"]))
    image = torch.randn(1, 3, HEIGHT, WIDTH) * 0.3 + 2
    open_wide = torch.zeros(3, statistics.shape[1])
    with torch.no_grad():
        features, current = build_form(backbone, "measured", 1)(image, statistics, open_wide)
    assert torch.allclose(features.mean((0, 2, 3)), trained["mean"][-CHANNELS:], atol=1e-4)
    assert torch.allclose(features.var((0, 2, 3)), trained["var"][-CHANNELS:], rtol=1e-3)
    assert (current[0] - statistics[0]).abs().mean() > 0.05


def test_a_network_that_has_more_norms_of_its_own_gets_none() -> None:
    backbone = backbone_of(MoreBatchNorms())
    assert give_virtual_norms(backbone, views(1)) == 0
    assert [norm.name for norm in list_norms(backbone)] == ["body.2"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    directory = tmp_path_factory.mktemp("group_norm")
    torch.manual_seed(0)
    network = WithoutBatchNorm().eval()
    torch.save(network.state_dict(), directory / "network.pth")
    home = write_frames(directory / "home", [home_frame(seed) for seed in range(8)])
    request = ExportRequest(
        directory / "network.pth",
        directory / "bundle",
        f"{SMALL_ARCH}_without_batch_norm",
        input_size=(HEIGHT, WIDTH),
        calibration=home,
    )
    return calibrate_bundle(export_bundle(request), find_frames(home), "onnxruntime", 1)[0]


def test_a_bundle_exported_with_home_frames_adapts_away_and_is_frozen_at_home(bundle: Bundle) -> None:
    assert [norm.sensing for norm in bundle.manifest.norms] == [True, False]
    assert bundle.manifest.home is not None
    assert bundle.manifest.home.at_home
    options = SessionOptions("norm", backend="onnxruntime", threads=1)
    session = open_session(bundle, options, ANY, SimulatedClock())
    frozen = open_session(bundle, SessionOptions("frozen", backend="onnxruntime", threads=1))
    for index in range(5):
        image = home_frame(50 + index)
        assert np.array_equal(session.predict(image, float(index)), frozen.predict(image, float(index)))
    dark = [(home_frame(index) * 0.2).astype(np.uint8) for index in range(10)]
    results = [session.step(image, 5.0 + index) for index, image in enumerate(dark)]
    assert results[-1].opening > 0.9
    assert not np.array_equal(results[-1].mask, frozen.predict(dark[-1], 14.0))
