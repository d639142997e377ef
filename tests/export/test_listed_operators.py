"""Operators that no bundle may call are written with others, and what cannot be is named in a sentence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ocl_edge.errors import CaptureError, SplitError
from ocl_edge.network.programs.operators import OPERATORS, name_of
from ocl_edge_export.cuts import nearest_cuts, possible_cuts
from ocl_edge_export.head_step import describe_head
from ocl_edge_export.lowering import lower_for_engines
from ocl_edge_export.onnx_forms import export_plain
from ocl_edge_export.parity_cases import finish
from ocl_edge_export.split import SplitNetwork, split_network
from ocl_edge_export.taken_output import take_output
from tests.doubles.network_blocks import Step

SIZE = (32, 48)
CHANNELS, CLASSES = 8, 5


class Body(nn.Module):
    """Stem, ``middle``, ``head``, enlarged."""

    def __init__(self, middle: nn.Module | None = None, head: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, CHANNELS, 3, 2, 1), nn.BatchNorm2d(CHANNELS), nn.ReLU())
        self.middle = middle or nn.Identity()
        self.head = head or nn.Conv2d(CHANNELS, CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        logits = self.head(self.middle(self.stem(image)))
        return F.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=False)


class Standardised(nn.Conv2d):
    """Weights of mean 0 and deviation 1 for each output channel."""

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, unbiased=False)
        return F.conv2d(x, (self.weight - mean) / (variance + 1e-5).sqrt(), self.bias, padding=self.padding)


class StandardisedByANorm(nn.Conv2d):
    """The same by a BatchNorm in training mode, whose channels are the weights', as timm writes it."""

    def forward(self, x: Tensor) -> Tensor:
        rows = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(rows, None, None, training=True, eps=1e-5).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, padding=self.padding)


class AlongRows(nn.Module):
    """A recurrent layer that reads each row of the image from left to right."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        rows, _ = self.layer(x.permute(0, 2, 3, 1).reshape(n * h, w, c))
        return rows.reshape(n, h, w, -1).permute(0, 3, 1, 2)


class Embedded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.Embedding(16, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        level = (x.mean(1).clamp(0, 1) * 15).long()
        return x + self.levels(level).permute(0, 3, 1, 2)


class Windows(Body):
    """Windows that overlap, summed and divided by how many lie on each pixel: counts are no features."""

    def forward(self, image: Tensor) -> Tensor:
        total = image.new_zeros(image.shape[0], CLASSES, *SIZE)
        count = torch.zeros_like(image[:1, :1])
        for left in (0, 8, 16):
            window = image[..., left : left + 32]
            total[..., left : left + 32] += super().forward(window)
            count[..., left : left + 32] += 1
        return total / count


def elementwise(x: Tensor) -> Tensor:
    x = x.log1p() + x.atan() + torch.nan_to_num(x) + torch.fmod(x, 0.7) + x.tan().clamp(-1, 1) + x.exp2()
    return x + torch.logical_xor(x > 0.5, x > 1).float() + torch.logaddexp(x, -x) + F.threshold(x, 0.1, 0.0)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "weights standardised": lambda: Body(Standardised(CHANNELS, CHANNELS, 3, padding=1)),
    "head standardised": lambda: Body(head=Standardised(CHANNELS, CLASSES, 1)),
    "standardised by a norm": lambda: Body(StandardisedByANorm(CHANNELS, CHANNELS, 3, padding=1)),
    "gru": lambda: Body(AlongRows(nn.GRU(CHANNELS, 4, batch_first=True, bidirectional=True))),
    "lstm": lambda: Body(AlongRows(nn.LSTM(CHANNELS, CHANNELS, 2, batch_first=True))),
    "plain recurrent": lambda: Body(AlongRows(nn.RNN(CHANNELS, CHANNELS, batch_first=True))),
    "embedding": lambda: Body(Embedded()),
    "elementwise": lambda: Body(Step(elementwise)),
    "local response": lambda: Body(nn.LocalResponseNorm(3)),
    "windows": Windows,
    "largest of regions": lambda: Body(Step(lambda x: x * F.adaptive_max_pool2d(x, 1))),
    "wrapped around": lambda: Body(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, padding_mode="circular")),
}


def parts_of(network: nn.Module) -> tuple[SplitNetwork, Tensor]:
    images = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    taken = take_output(network.eval(), images)
    return split_network(taken.captured, "auto", taken.values), images


@pytest.mark.parametrize("name", NETWORKS)
def test_the_parts_are_the_whole_and_call_what_is_listed(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]()
    split, images = parts_of(network)
    with torch.no_grad():
        expected = network(images)
        found = finish(split, tuple(split.backbone(images)), expected.shape)
    assert torch.allclose(found, expected, atol=1e-5)
    assert split.module == "head"
    called = [n for part in (split.backbone, split.head) for n in part.graph.nodes if n.op == "call_function"]
    assert {name_of(node.target) for node in called} <= OPERATORS


@pytest.mark.parametrize("name", ["gru", "lstm", "elementwise", "windows", "largest of regions"])
def test_onnx_gives_the_same(name: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    split, images = parts_of(NETWORKS[name]())
    model = export_plain(lower_for_engines(split.backbone), images, split.features)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = split.backbone(images)
    for found, feature in zip(session.run(None, {"image": images.numpy()}), expected, strict=True):
        assert torch.allclose(torch.from_numpy(found), feature, atol=1e-4)


class TrainedOnSpectra(Body):
    """A training head that computes with complex numbers, which the masks do not need."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        features = self.stem(image)
        return {"out": self.head(features), "aux": torch.fft.rfft2(self.head(features * 2)).abs()}


def test_only_what_the_output_depends_on_counts() -> None:
    split, _ = parts_of(TrainedOnSpectra())
    assert split.module == "head"


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_gated_recurrent_layers_stay_whole(kind: type[nn.RNNBase]) -> None:
    split, _ = parts_of(Body(AlongRows(kind(CHANNELS, CHANNELS, batch_first=True))))
    assert len(list(split.backbone.graph.nodes)) < 40


def test_complex_numbers_are_refused_with_their_module() -> None:
    def blurred(x: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(x) * 0.5, s=x.shape[2:])

    with pytest.raises(
        CaptureError, match=r"^middle computes with complex numbers \(fft_rfft2\), and a bundle"
    ):
        parts_of(Body(Step(blurred)))


def test_what_onnx_cannot_express_is_said_in_a_line_with_its_module() -> None:
    def own_kernels(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        kernels = x.mean((2, 3)).view(n * c, 1, 1, 1)
        return F.conv2d(x.reshape(1, n * c, h, w), kernels, groups=n * c).view(n, c, h, w)

    split, images = parts_of(Body(Step(own_kernels)))
    with pytest.raises(CaptureError) as refused:
        export_plain(split.backbone, images, split.features)
    said = str(refused.value)
    assert said.startswith(
        "the backbone cannot be written as ONNX: aten.conv2d.default in middle has no form"
    )
    assert said.isprintable()
    assert len(said) < 400


class Refined(Body):
    """The least certain pixels are classified again, by a layer of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.again = nn.Conv1d(CLASSES, CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        logits = self.head(self.stem(image))
        certain = logits.amax(1).flatten(1)
        places = certain.topk(9, 1, largest=False)[1][:, None].expand(-1, CLASSES, -1)
        flat = logits.flatten(2)
        return flat.scatter(2, places, self.again(flat.gather(2, places))).view_as(logits)


def test_where_auto_finds_no_cut_those_that_can_be_made_are_listed() -> None:
    network = take_output(Refined().eval(), torch.randn(2, 3, *SIZE)).captured
    with pytest.raises(SplitError, match="again would read"):
        split_network(network)
    assert nearest_cuts(network, "auto") == "head"
    listed = possible_cuts(network)
    assert [cut.module for cut in listed][-1] == "head"
    assert not any(cut.taken for cut in listed)
    assert split_network(network, "head").module == "head"


def test_the_operators_of_a_long_head_are_named_once_and_not_all() -> None:
    def long(x: Tensor) -> Tensor:
        for _ in range(30):
            x = elementwise(x.abs()).sigmoid()
        return x

    split, _ = parts_of(Body(head=nn.Sequential(nn.Conv2d(CHANNELS, CLASSES, 1), Step(long))))
    with pytest.raises(
        SplitError, match=r"this one is: aten\.conv2d\.default, .* and \d+ more kinds$"
    ) as said:
        describe_head(split.head)
    assert len(str(said.value)) < 400
