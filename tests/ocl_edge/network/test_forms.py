"""The norm forms against BatchNorm layers that are patched in an ordinary network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ocl_edge.method.mixing import Mixing
from ocl_edge.method.norms import NormsAsTrained
from ocl_edge.network.batch_norms import Norm, list_norms, trained_tensors
from ocl_edge.network.forms import measure, measured_form, modulated_form
from ocl_edge_export.capture import capture
from ocl_edge_export.split import SplitNetwork, split_network
from tests.doubles import small_network

PRIORS = {"stem_norm": 0.7, "join_norm": 0.8, "gate.2": 0.9, "narrow_norm": 1.0}
"""Of every norm; what `Mixing.of_prior` makes of (0.7, 1.0)."""


@pytest.fixture(scope="module")
def split() -> SplitNetwork:
    network = small_network.trained()
    return split_network(capture(network, small_network.HEIGHT, small_network.WIDTH))


@pytest.fixture(scope="module")
def source(split: SplitNetwork) -> NormsAsTrained:
    return NormsAsTrained(**trained_tensors(split.backbone))


@pytest.fixture
def images() -> Tensor:
    return torch.randn(
        2, 3, small_network.HEIGHT, small_network.WIDTH, generator=torch.Generator().manual_seed(3)
    )


class PatchedNorm(nn.Module):
    """FACTS of the method, written with PyTorch's own reductions."""

    def __init__(self, norm: nn.BatchNorm2d, prior: float, rows: int, seen: list[Tensor]) -> None:
        super().__init__()
        self.norm, self.prior, self.rows, self.seen = norm, prior, rows, seen

    def forward(self, x: Tensor) -> Tensor:
        stride = 1 if self.rows == 1 else 2  # inputs of 24 rows: every 4th would leave fewer than 12
        sample = x[:, :, stride // 2 :: stride]
        n = self.norm
        assert n.running_mean is not None
        assert n.running_var is not None
        if x.shape[2] * x.shape[3] == 1:
            mean, var = n.running_mean, n.running_var
        else:
            current = torch.stack((sample.mean((0, 2, 3)), sample.var((0, 2, 3), unbiased=True)))
            self.seen.append(current)
            mean = self.prior * n.running_mean + (1 - self.prior) * current[0]
            var = self.prior * n.running_var + (1 - self.prior) * current[1]
        return F.batch_norm(x, mean, var, n.weight, n.bias, False, 0.0, n.eps)


def features_of_patched_network(images: Tensor, rows: int) -> tuple[Tensor, list[Tensor]]:
    network, seen, features = small_network.trained(), [], []  # type: ignore[var-annotated]
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            parent, _, attribute = name.rpartition(".")
            patched = PatchedNorm(module, PRIORS[name], rows, seen)
            setattr(network.get_submodule(parent), attribute, patched)
    network.classifier.register_forward_pre_hook(lambda _module, inputs: features.append(inputs[0]))
    with torch.no_grad():
        network(images)
    return features[0], seen


def test_norms_are_listed_in_order_of_execution(split: SplitNetwork) -> None:
    norms = list_norms(split.backbone)
    assert [n.name for n in norms] == ["stem_norm", "join_norm", "gate.2", "narrow_norm"]
    assert [n.channels for n in norms] == [8, 16, 16, 6]
    assert [n.pinned for n in norms] == [False, False, True, False]
    assert norms[1].eps == 1e-3


def test_modulated_with_source_vectors_equals_plain(
    split: SplitNetwork, source: NormsAsTrained, images: Tensor
) -> None:
    with torch.no_grad():
        plain = split.backbone(images)[0]
        modulated = modulated_form(split.backbone)(images, source.vectors(source.statistics))[0]
    assert torch.allclose(plain, modulated, atol=1e-5)


def test_modulated_follows_its_vectors(split: SplitNetwork, source: NormsAsTrained, images: Tensor) -> None:
    vectors = source.vectors(source.statistics)
    form = modulated_form(split.backbone)
    with torch.no_grad():
        before = form(images, vectors)[0]
        for channel in range(vectors.shape[1]):
            changed = vectors.clone()
            changed[:, channel] += 0.5
            assert not torch.equal(before, form(images, changed)[0]), channel


def test_measured_with_weight_one_equals_plain(
    split: SplitNetwork, source: NormsAsTrained, images: Tensor
) -> None:
    with torch.no_grad():
        plain = split.backbone(images)[0]
        closed = Mixing(torch.rand(2, 46), between=True).at(0.0)
        measured = measured_form(split.backbone)(images, source.statistics, closed)[0]
    assert torch.allclose(plain, measured, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("batch", [1, 2])
def test_measured_equals_patched_layers(
    split: SplitNetwork, source: NormsAsTrained, images: Tensor, rows: int, batch: int
) -> None:
    expected, seen = features_of_patched_network(images[:batch], rows)
    form = measured_form(split.backbone, rows)
    with torch.no_grad():
        features, statistics = form(
            images[:batch], source.statistics, Mixing.of_prior([8, 16, 16, 6], (0.7, 1.0)).at(1.0)
        )
    assert torch.allclose(features, expected, atol=1e-5)
    assert not torch.allclose(features, split.backbone(images[:batch])[0], atol=1e-2)
    pinned = slice(24, 40)  # the gate's norm sees one position and keeps the anchor
    assert torch.equal(statistics[:, pinned], source.statistics[:, pinned])
    free = torch.cat((statistics[:, :24], statistics[:, 40:]), 1)
    assert torch.allclose(free, torch.cat(seen, 1), atol=1e-5)


@pytest.mark.parametrize("between", [False, True])
def test_vectors_of_the_measured_statistics_reproduce_the_measured_form(
    split: SplitNetwork, source: NormsAsTrained, images: Tensor, between: bool
) -> None:
    with torch.no_grad():
        weight = Mixing(torch.rand(2, 46), between).at(0.9)
        features, statistics = measured_form(split.backbone)(images, source.statistics, weight)
        vectors = source.vectors(source.mixed_with(statistics, weight))
        again = modulated_form(split.backbone)(images, vectors)[0]
    assert torch.allclose(features, again, atol=1e-5)


def test_no_gradient_flows_through_the_statistics(split: SplitNetwork, source: NormsAsTrained) -> None:
    norm = nn.BatchNorm2d(3).eval()
    network = nn.Sequential(norm, nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 2, 1))
    parts = split_network(capture(network, 8, 8))
    form = measured_form(parts.backbone)
    image = torch.randn(1, 3, 8, 8, requires_grad=True)
    statistics = NormsAsTrained(**trained_tensors(parts.backbone)).statistics
    form(image, statistics, torch.zeros(3, 3))[0].sum().backward()
    fixed_image = image.detach().clone().requires_grad_()
    mean, var = fixed_image.detach().mean((0, 2, 3)), fixed_image.detach().var((0, 2, 3))
    fixed = F.batch_norm(fixed_image, mean, var, norm.weight, norm.bias, False, 0.0, norm.eps)
    F.relu(network[1](fixed)).sum().backward()
    assert torch.allclose(image.grad, fixed_image.grad, atol=1e-5)  # type: ignore[arg-type]


def test_the_original_graph_is_not_changed(split: SplitNetwork, images: Tensor) -> None:
    before = str(split.backbone.graph)
    modulated_form(split.backbone)
    measured_form(split.backbone, 2)
    assert str(split.backbone.graph) == before


@pytest.mark.parametrize(
    ("rows", "stat_rows", "sampled"),
    [
        (192, 8, range(4, 192, 8)),
        (48, 8, range(2, 48, 4)),
        (24, 8, range(1, 24, 2)),
        (5, 8, range(5)),
        (192, 1, range(192)),
    ],
)
def test_rows_are_sampled_from_the_middle_and_never_too_few(
    rows: int, stat_rows: int, sampled: range
) -> None:
    norm = Norm("n", 3, 1e-5, rows, 7)
    assert norm.sampled_positions(stat_rows) == len(sampled) * 7
    x = torch.randn(1, 3, rows, 7)
    mean, _ = measure(x, torch.ones(1), norm.row_stride(stat_rows))
    assert torch.allclose(mean, x[:, :, list(sampled)].mean((0, 2, 3), keepdim=True), atol=1e-6)
