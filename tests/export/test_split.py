from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ocl_edge.errors import CaptureError, SplitError
from ocl_edge_export.capture import capture
from ocl_edge_export.split import split_network
from tests.doubles import small_network


class TwoBranches(nn.Module):
    """A skip connection crosses into the decoder; a softmax follows the head."""

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Conv2d(3, 4, 3, padding=1)
        self.late = nn.Conv2d(4, 4, 3, 2, 1)
        self.decoder = nn.ModuleDict({"skip": nn.Conv2d(4, 4, 1), "mix": nn.Conv2d(4, 3, 1)})
        self.tail_kind = "softmax"

    def forward(self, image: Tensor) -> Tensor:
        early = F.relu(self.early(image))
        late = F.interpolate(F.relu(self.late(early)), scale_factor=2.0)
        logits = self.decoder["mix"](F.relu(self.decoder["skip"](early) + late))
        return (
            torch.softmax(logits, 1) if self.tail_kind == "softmax" else logits * image.mean((1, 2, 3), True)
        )


def test_the_last_layer_with_weights_is_the_head() -> None:
    network = small_network.trained()
    split = split_network(capture(network, small_network.HEIGHT, small_network.WIDTH))
    assert split.module == "classifier"
    assert [tuple(p.shape) for p in split.head.parameters()] == [(5, 6, 1, 1), (5,)]
    assert (split.features, split.logits) == ([[6, 24, 32]], [5, 24, 32])
    assert split.tail is None
    assert split.align_corners
    assert not {n for n, _ in split.backbone.named_parameters()} & {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("module", ["auto", "narrow", "narrow_norm", "classifier"])
def test_the_parts_make_the_whole(module: str) -> None:
    network = small_network.trained()
    split = split_network(capture(network, small_network.HEIGHT, small_network.WIDTH), module)
    image = torch.randn(3, 3, small_network.HEIGHT, small_network.WIDTH)
    with torch.no_grad():
        logits = split.head(*split.backbone(image))[0]
        whole = network(image)
    size = whole.shape[2:]
    assert torch.allclose(F.interpolate(logits, size, mode="bilinear", align_corners=True), whole, atol=1e-5)


def test_several_tensors_may_cross_and_a_tail_may_be_more_than_a_resize() -> None:
    network = TwoBranches().eval()
    split = split_network(capture(network, 16, 16), "decoder")
    assert len(split.features) == 2
    assert split.tail is not None
    image = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(split.tail(split.head(*split.backbone(image))[0])[0], network(image), atol=1e-6)


def test_what_joins_the_logits_from_the_backbone_is_a_feature() -> None:
    network = TwoBranches().eval()
    network.tail_kind = "scaled"
    split = split_network(capture(network, 16, 16))
    assert split.features == [[4, 16, 16], [1, 1, 1]]
    image = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(split.head(*split.backbone(image))[0], network(image), atol=1e-6)


def test_impossible_cuts_are_explained() -> None:
    network = small_network.trained()
    for module, message in (
        ("clasifier", "no module 'clasifier'"),
        ("stem", "read the image itself"),
        ("dropout", "no module 'dropout'"),
    ):
        with pytest.raises(SplitError, match=message):
            split_network(capture(network, small_network.HEIGHT, small_network.WIDTH), module)
    with pytest.raises(SplitError, match="no layer with weights"):
        split_network(capture(nn.AvgPool2d(2), 16, 16))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda x: {"a": x, "b": x},
            r"none is named out or logits\. Say which it is with --output NAME: a \[2, 3",
        ),
        (lambda x: x.mean((2, 3)), r"got \[2, 3\]"),
        (lambda _: (), "returns nothing"),
    ],
)
def test_outputs_that_are_no_logits_are_refused(make: object, message: str) -> None:
    class Network(nn.Module):
        def forward(self, image: Tensor) -> object:
            return make(image)  # type: ignore[operator]

    with pytest.raises(CaptureError, match=message):
        capture(Network(), 8, 8)


@pytest.mark.parametrize("key", ["out", "logits"])
def test_logits_are_found_in_mappings(key: str) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.aux = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)
            self.body = nn.Conv2d(3, 4, 1)

        def forward(self, image: Tensor) -> dict[str, Tensor]:
            x = self.body(image)
            return {"aux": self.aux(x), key: self.head(x)}

    split = split_network(capture(Network(), 8, 8))
    assert split.module == "head"


def test_a_network_that_cannot_be_captured_is_explained() -> None:
    class DataDependent(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image if image.sum() > 0 else -image

    with pytest.raises(CaptureError, match="cannot capture"):
        capture(DataDependent(), 8, 8)

    class Picky(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            raise ValueError("needs 7x7")

    with pytest.raises(CaptureError, match="does not run on a 8x8 image: needs 7x7"):
        capture(Picky(), 8, 8)
