"""Norms that no other norm feeds, found in captured graphs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ocl_edge.bundle.reading import Bundle
from ocl_edge.network.batch_norms import keep_as_norms, list_norms
from ocl_edge_export.capture import capture
from ocl_edge_export.sensing import which_norms_sense
from tests.doubles.small_network import CLASSES


class Branches(nn.Module):
    """Two norms see the image; one of them, and a pooled norm, feed the third."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(3, 4, 3, 1, 1), nn.BatchNorm2d(4)
        self.side_norm = nn.BatchNorm2d(3)
        self.whole, self.whole_norm = nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5)
        self.last, self.last_norm = nn.Conv2d(7, CLASSES, 1), nn.BatchNorm2d(CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        first = F.relu(self.first_norm(self.first(image)))
        side = self.side_norm(F.avg_pool2d(image, 3, 1, 1))
        whole = self.whole_norm(self.whole(F.adaptive_avg_pool2d(image, 1)))
        joined = torch.cat((first, side), 1) * whole.mean(1, keepdim=True)
        return self.last_norm(self.last(joined))


def test_only_norms_that_see_the_image_sense() -> None:
    backbone = capture(Branches(), 16, 16)
    sensing = {
        n.name for n, senses in zip(list_norms(backbone), which_norms_sense(backbone), strict=True) if senses
    }
    assert sensing == {
        "first_norm",
        "side_norm",
    }  # one value an image has no variance: whole_norm senses nothing


def test_what_stands_behind_a_norm_that_stays_senses_nothing() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, 1, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5)
    )
    backbone = capture(network.eval(), 16, 16)
    keep_as_norms(backbone, {"3"})
    assert [norm.name for norm in list_norms(backbone)] == ["3"]
    assert which_norms_sense(backbone) == [False]


def test_a_bundle_holds_which_norms_sense(small_bundle: Bundle) -> None:
    assert {norm.name: norm.sensing for norm in small_bundle.manifest.norms} == {
        "stem_norm": True,
        "join_norm": False,
        "gate.2": False,
        "narrow_norm": False,
    }
    assert small_bundle.manifest.sensing_norms == [0]


def test_of_an_older_bundle_the_first_norm_senses(small_bundle: Bundle) -> None:
    manifest = small_bundle.manifest
    older = manifest.model_copy(
        update={"norms": tuple(norm.model_copy(update={"sensing": None}) for norm in manifest.norms)}
    )
    assert older.sensing_norms == [0]
    pinned = older.norms[0].model_copy(update={"pinned": True})
    assert manifest.model_copy(update={"norms": (pinned, *older.norms[1:])}).sensing_norms == []
