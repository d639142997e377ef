"""Masks interpolated at their edges alone, against interpolating everything."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ocl_edge.network.bilinear_argmax import BilinearArgmax, strongest_two
from ocl_edge.network.sampling import SampledAxis
from ocl_edge.network.tail import Tail

SIZES = [
    ((48, 64), (270, 480)),
    ((48, 64), (131, 97)),
    ((37, 53), (301, 211)),
    ((64, 96), (128, 192)),  # a whole number of pixels a cell
    ((40, 40), (400, 79)),  # fewer columns than 2 a cell
    ((60, 80), (40, 200)),  # fewer rows than cells
    ((2, 70), (200, 300)),
    ((1, 1), (100, 100)),
]


def regions(classes: int, height: int, width: int, seed: int = 0, cells: int = 5) -> torch.Tensor:
    """Logits [1, classes, height, width] of a few large regions, as a network gives them."""
    generator = torch.Generator().manual_seed(seed)
    coarse = 5 * torch.randn(1, classes, cells, cells, generator=generator)
    smooth = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    return smooth + 0.01 * torch.randn(smooth.shape, generator=generator)


def everywhere(logits: torch.Tensor, size: tuple[int, int], align_corners: bool) -> np.ndarray:
    return F.interpolate(logits, size, mode="bilinear", align_corners=align_corners).argmax(1)[0].numpy()


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(("logits_size", "mask_size"), SIZES)
@pytest.mark.parametrize("classes", [2, 7, 150, 300])
def test_the_mask_is_that_of_all_interpolated_logits(
    classes: int, logits_size: tuple[int, int], mask_size: tuple[int, int], align_corners: bool
) -> None:
    logits = regions(classes, *logits_size)
    mask = BilinearArgmax(logits_size, mask_size, align_corners).mask(logits[0].numpy())
    if mask is None:  # too many edges for so few pixels
        mask = Tail(align_corners).mask(logits, *mask_size)
    assert mask.dtype == (np.uint16 if classes == 300 else np.uint8)
    assert np.array_equal(mask, everywhere(logits, mask_size, align_corners))


@pytest.mark.parametrize("align_corners", [True, False])
def test_frames_that_are_much_larger_take_this_way(
    align_corners: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tail, "everywhere", None)
    logits = regions(19, 96, 128)
    mask = Tail(align_corners).mask(logits, 540, 960)
    assert np.array_equal(mask, everywhere(logits, (540, 960), align_corners))


@pytest.mark.parametrize("align_corners", [True, False])
def test_the_first_of_equals_wins_as_everywhere(align_corners: bool) -> None:
    logits = regions(9, 48, 64)
    logits[0, 5] = logits[0, 2]
    logits[0, 7, :, 20:40] = logits[0, :7, :, 20:40].amax(0)
    mask = Tail(align_corners).mask(logits, 270, 480)
    assert 5 not in mask
    assert np.array_equal(mask, everywhere(logits, (270, 480), align_corners))


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_classes_apart_by_a_rounding_end_as_pytorch_rounds_them(scale: float, align_corners: bool) -> None:
    """Two planes that differ in their last digit almost everywhere: each pixel is a matter of rounding."""
    logits = regions(6, 48, 64) * scale
    digit = torch.from_numpy(np.spacing(logits[:, 1].numpy()))
    sign = torch.randint(-1, 2, digit.shape, generator=torch.Generator().manual_seed(1))
    logits[:, 4] = logits[:, 1] + sign * digit
    expected = everywhere(logits, (270, 480), align_corners)
    assert {1, 4} <= set(np.unique(expected))
    assert np.array_equal(Tail(align_corners).mask(logits, 270, 480), expected)


def test_a_class_between_two_others_is_found_though_it_wins_at_no_corner() -> None:
    logits = torch.full((1, 3, 40, 40), -9.0)
    logits[0, 0, :, :20], logits[0, 2, :, 20:] = 5.0, 5.0
    logits[0, 1] = 0.0  # second everywhere; first only between columns 19 and 20
    mask = BilinearArgmax((40, 40), (400, 400), True).mask(logits[0].numpy())
    assert mask is not None
    assert (logits.argmax(1) != 1).all()
    assert 1 in mask
    assert np.array_equal(mask, everywhere(logits, (400, 400), True))


def test_masked_classes_and_one_class_are_nothing_special() -> None:
    logits = regions(8, 48, 64)
    logits[0, 3] = -1e9
    assert np.array_equal(Tail(False).mask(logits, 270, 480), everywhere(logits, (270, 480), False))
    assert not Tail(False).mask(logits[:, :1], 270, 480).any()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_not_finite_are_interpolated_everywhere(value: float) -> None:
    logits = regions(8, 48, 64)
    logits[0, 3, 10:12, 5] = value
    axis = BilinearArgmax((48, 64), (270, 480), False)
    assert axis.mask(logits[0].numpy()) is None
    assert Tail(False).mask(logits, 270, 480).shape == (270, 480)


def test_noise_is_interpolated_everywhere_as_all_of_it_is_edges() -> None:
    logits = torch.randn(1, 8, 48, 64, generator=torch.Generator().manual_seed(0))
    assert BilinearArgmax((48, 64), (270, 480), False).mask(logits[0].numpy()) is None
    assert np.array_equal(Tail(False).mask(logits, 270, 480), everywhere(logits, (270, 480), False))


def test_three_classes_have_a_kernel_of_their_own_and_the_same_mask() -> None:
    logits = regions(3, 48, 64)
    assert np.array_equal(Tail(False).mask(logits, 270, 480), everywhere(logits, (270, 480), False))


def test_memory_is_that_of_the_mask_and_the_edges() -> None:
    logits, tail = regions(20, 192, 256), Tail(True)
    tail.mask(logits, 1080, 1920)
    tracemalloc.start()
    tail.mask(logits, 1080, 1920)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6  # all classes at this size: 166 MB


def test_the_gpu_way_gives_the_same_mask() -> None:
    """It is PyTorch alone, so that it runs here as well, on the CPU's tensors."""
    logits = regions(20, 48, 64)
    for align_corners in (True, False):
        mask = Tail(align_corners)._everywhere_on_gpu(logits, 1000, 1700)
        assert mask.dtype == np.uint8
        assert np.array_equal(mask, everywhere(logits, (1000, 1700), align_corners))


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(
    ("inputs", "outputs"), [(5, 3), (5, 5), (7, 100), (256, 1920), (100, 30), (1, 9), (9, 1)]
)
def test_an_axis_samples_where_the_formula_says(inputs: int, outputs: int, align_corners: bool) -> None:
    axis = SampledAxis.ask_pytorch(inputs, outputs, align_corners)
    every = np.arange(outputs, dtype=np.float64)
    position = every * (inputs - 1) / max(outputs - 1, 1)
    if not align_corners:
        position = np.clip((every + 0.5) * inputs / outputs - 0.5, 0, inputs - 1)
    assert np.allclose(axis.low * axis.near + axis.high * axis.far, position, atol=1e-4 * inputs)
    assert axis.count.sum() == outputs
    cell_of, output = axis.outputs_of(np.arange(inputs))
    assert np.array_equal(output, np.arange(outputs))
    assert np.array_equal(axis.low[output], cell_of)


def test_the_two_strongest_are_found_in_any_order() -> None:
    logits = np.random.default_rng(0).normal(size=(6, 20, 30)).astype(np.float32)
    winner, best, second = strongest_two(logits)
    ordered = np.sort(logits, 0)
    assert np.array_equal(winner, logits.argmax(0))
    assert np.array_equal(best, ordered[-1])
    assert np.array_equal(second, ordered[-2])
