"""Preprocessing and the tail against the plain formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ocl_edge.errors import FrameError
from ocl_edge.method.step import views_for_the_tail
from ocl_edge.network.preprocess import InputSpec, Preprocessor
from ocl_edge.network.tail import Tail
from tests.doubles.images import random_image

SPEC = InputSpec(height=48, width=64)


def plain_preprocessing(image: np.ndarray) -> torch.Tensor:
    x = torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[None]
    x = F.interpolate(x, (SPEC.height, SPEC.width), mode="bilinear", align_corners=False) / 255
    mean, std = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (SPEC.mean, SPEC.std))
    return ((x - mean) / std).float()


@pytest.mark.parametrize(
    "size", [(40, 50), (48, 64), (97, 31), (96, 128), (720, 1280), (333, 1001), (4000, 20)]
)
def test_preprocessing_equals_the_plain_formula(size: tuple[int, int]) -> None:
    image = random_image(0, *size)
    ours = Preprocessor(SPEC).single(image)
    assert ours.is_contiguous()
    assert torch.allclose(ours, plain_preprocessing(image), atol=1e-5)


def test_bgr_and_255_are_what_caffe_wants() -> None:
    """Order, then mean and deviation in that order and range."""
    spec = InputSpec(
        height=40, width=50, colours="bgr", scale=255, mean=(104.0, 117.0, 123.0), std=(1.0, 2.0, 4.0)
    )
    image = random_image(3, 40, 50)
    ours = Preprocessor(spec).single(image)[0]
    for channel, (source, mean, std) in enumerate(((2, 104, 1), (1, 117, 2), (0, 123, 4))):
        expected = (image[:, :, source].astype(np.float64) - mean) / std
        assert np.allclose(ours[channel].numpy(), expected, atol=1e-4)


def test_grey_is_the_luma_of_rgb_and_any_other_number_of_channels_is_taken_as_it_comes() -> None:
    grey = InputSpec(height=40, width=50, colours="grey", mean=(0.4,), std=(0.2,))
    image = random_image(4, 40, 50)
    luma = image.astype(np.float64) @ [0.299, 0.587, 0.114]
    expected = (luma / 255 - 0.4) / 0.2
    assert np.allclose(Preprocessor(grey).single(image)[0, 0].numpy(), expected, atol=1e-4)
    thermal = image[:, :, :1].copy()
    expected = (thermal[:, :, 0] / 255 - 0.4) / 0.2
    assert np.allclose(Preprocessor(grey).single(thermal)[0, 0].numpy(), expected, atol=1e-4)
    four = InputSpec(height=40, width=50, colours="any", mean=(0.5,) * 4, std=(0.25,) * 4)
    depth = np.concatenate((image, thermal), 2)
    pair = Preprocessor(four).pair(depth)
    assert np.allclose(pair[0].permute(1, 2, 0).numpy(), (depth / 255 - 0.5) / 0.25, atol=1e-4)
    assert torch.equal(pair[1], pair[0].flip(2))
    with pytest.raises(FrameError, match=r"expected an image \[H, W, 4\]"):
        Preprocessor(four).single(image)


def test_numbers_must_fit_the_channels() -> None:
    for wrong in ({"mean": (0.5,)}, {"colours": "bgr", "mean": (0.5,), "std": (0.5,)}, {"scale": 2}):
        with pytest.raises(ValueError, match=r"means|channels|1 or 255"):
            InputSpec.model_validate({"height": 4, "width": 4, **wrong})


def test_views_of_probabilities_are_averaged_after_the_tail() -> None:
    tail = Tail(False, nn.Sequential(nn.Softmax(1), Tupled()))
    logits = torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(3)) * 4
    mean = (logits[:1].softmax(1) + logits[1:].flip(3).softmax(1)) / 2
    aligned = views_for_the_tail(logits, of_probabilities=True)
    assert np.array_equal(tail.mask(aligned, 6, 7), mean.argmax(1)[0].numpy())
    of_logits = views_for_the_tail(logits, of_probabilities=False)
    assert torch.allclose(of_logits, (logits[:1] + logits[1:].flip(3)) / 2)
    assert not np.array_equal(tail.mask(of_logits, 6, 7), mean.argmax(1)[0].numpy())


class Tupled(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (x,)


def test_frames_of_changing_size_are_resized_each_from_its_own_pixels() -> None:
    preprocessor = Preprocessor(SPEC)
    for seed, size in enumerate([(480, 640), (300, 400), (48, 64), (480, 640)]):
        image = random_image(seed, *size)
        assert torch.allclose(preprocessor.single(image), plain_preprocessing(image), atol=1e-5)
    mirrored = random_image(9, 480, 640)[:, ::-1]
    expected = plain_preprocessing(np.ascontiguousarray(mirrored))
    assert torch.allclose(preprocessor.single(mirrored), expected, atol=1e-5)


def test_the_pair_is_the_image_and_its_flip() -> None:
    image = random_image(1)
    pair = Preprocessor(SPEC).pair(image)
    assert torch.allclose(pair[0], plain_preprocessing(image)[0], atol=1e-5)
    assert torch.equal(pair[1], pair[0].flip(2))


def test_read_only_and_mirrored_arrays_are_taken_and_not_changed() -> None:
    image = random_image(2)
    expected = Preprocessor(SPEC).single(np.ascontiguousarray(image[:, :, ::-1])).clone()
    assert torch.equal(Preprocessor(SPEC).single(image[:, :, ::-1]), expected)
    image.setflags(write=False)
    before = image.copy()
    Preprocessor(SPEC).pair(image)
    assert np.array_equal(image, before)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((4, 4, 3), np.nan, np.float32), "float32 with NaN"),
        (np.zeros((4, 4, 3), np.float32), "got float32"),
        (np.zeros((4, 4), np.uint8), r"\[4, 4\]"),
        (np.zeros((0, 4, 3), np.uint8), r"\[0, 4, 3\]"),
        (np.zeros((4, 4, 4), np.uint8), r"\[4, 4, 4\]"),
        ([[1]], "got list"),
    ],
)
def test_other_images_are_refused(image: object, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        Preprocessor(SPEC).single(image)  # type: ignore[arg-type]


@pytest.mark.parametrize("align_corners", [True, False])
def test_the_mask_equals_interpolation_and_argmax(align_corners: bool) -> None:
    logits = torch.randn(1, 20, 24, 32)
    logits[0, 3] = logits[0, 7]  # equals: the first wins
    expected = F.interpolate(logits, (45, 61), mode="bilinear", align_corners=align_corners).argmax(1)[0]
    mask = Tail(align_corners).mask(logits, 45, 61)
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, expected.numpy())
    same_size = Tail(align_corners).mask(logits, 24, 32)
    assert np.array_equal(same_size, logits.argmax(1)[0].numpy())


@pytest.mark.parametrize(
    ("classes", "at_once"), [(1, 9), (2, 9), (255, 1000), (256, 1000), (700, 90), (7, 3), (7, 1)]
)
def test_masks_of_any_size_and_class_count_belong_to_the_caller(
    classes: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocl_edge.network.tail.CHUNK_BYTES", at_once * 30 * 40 * 4)
    tail, generator = Tail(True), torch.Generator().manual_seed(classes)
    kept = []
    for size in ((30, 40), (30, 40), (12, 16), (7, 9), (30, 40)):
        logits = torch.randn(1, classes, 12, 16, generator=generator)
        expected = F.interpolate(logits, size, mode="bilinear", align_corners=True).argmax(1)[0].numpy()
        kept.append((tail.mask(logits, *size), expected))
        strided = logits.contiguous(memory_format=torch.channels_last)
        kept.append((tail.mask(strided, *size), expected))
    for mask, expected in kept:  # after all calls: none may share a buffer with another
        assert np.array_equal(mask, expected)
        assert mask.dtype == (np.uint8 if classes <= 255 else np.uint16)


def test_another_tail_runs_before_the_resize() -> None:
    class Shuffle(nn.Module):
        def forward(self, logits: torch.Tensor) -> tuple[torch.Tensor]:
            return (F.pixel_shuffle(logits, 2),)

    logits = torch.randn(1, 20, 6, 8)
    mask = Tail(False, Shuffle()).mask(logits, 12, 16)
    assert np.array_equal(mask, F.pixel_shuffle(logits, 2).argmax(1)[0].numpy())
