"""Frames between grey bars: proportions, the flip, and where their masks lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ocl_edge.errors import FrameError
from ocl_edge.network.letterbox import bars, mask_without_bars, with_bars
from ocl_edge.network.preprocess import InputSpec, Preprocessor
from tests.doubles.images import random_image

NETWORK = (48, 64)
SPEC = InputSpec(height=48, width=64, resize="letterbox", mean=(0.0,) * 3, std=(1.0,) * 3)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [((48, 64), (0, 0)), ((96, 128), (0, 0)), ((40, 100), (36, 0)), ((100, 40), (0, 94)), ((1, 1), (0, 0))],
)
def test_bars_give_the_network_s_proportions(frame: tuple[int, int], expected: tuple[int, int]) -> None:
    assert bars(frame, NETWORK) == expected


def test_the_frame_lies_in_the_middle_of_grey() -> None:
    image = random_image(1, 40, 100)
    picture = with_bars(image, NETWORK)
    assert picture.shape == (76, 100, 3)
    assert np.array_equal(picture[18:58], image)
    assert (picture[:18] == 114).all()
    assert (picture[58:] == 114).all()


@pytest.mark.parametrize("size", [(40, 100), (100, 41), (300, 500)])
def test_the_network_sees_the_whole_frame_and_the_flip_of_the_view_is_the_view_of_the_flip(
    size: tuple[int, int],
) -> None:
    image = random_image(2, *size)
    first, flipped = Preprocessor(SPEC).pair(image).clone()
    picture = torch.from_numpy(with_bars(image, NETWORK)).permute(2, 0, 1)[None].float()
    expected = F.interpolate(picture, NETWORK, mode="bilinear", align_corners=False)[0] / 255
    assert torch.allclose(first, expected, atol=1e-5)
    other = Preprocessor(SPEC).single(np.ascontiguousarray(image[:, ::-1]))[0]
    assert torch.allclose(flipped, other, atol=1e-5)


@pytest.mark.parametrize("size", [(40, 100), (20, 50), (41, 101)])
def test_the_mask_is_that_of_the_frame_alone(size: tuple[int, int]) -> None:
    """The network marks what is grey; of that nothing is left."""

    def make(height: int, width: int) -> np.ndarray:
        picture = torch.from_numpy(
            with_bars(np.zeros((40, 100, 3), np.uint8), NETWORK)[..., 0].astype(np.float32)
        )
        sized = F.interpolate(picture[None, None], (height, width), mode="nearest-exact")
        return sized[0, 0].numpy().astype(np.uint8)

    mask = mask_without_bars(make, (40, 100), size, NETWORK)
    assert mask.shape == size
    assert mask.flags.c_contiguous
    assert (mask[1:-1] == 0).all()
    assert (make(76, 100) == 114).mean() > 0.4


def test_a_frame_whose_bars_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(FrameError, match=r"8x60000 with bars is larger than"):
        Preprocessor(SPEC).single(np.zeros((8, 60_000, 3), np.uint8))
