"""The stand-in for PyTorch computes what PyTorch does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ocl_edge.tensors import in_numpy
from ocl_edge.tensors.numpy_tensor import as_tensor
from ocl_edge.tensors.random_numbers import Generator


@pytest.mark.parametrize("seed", [0, 1, 20261126, 2**40 + 3])
def test_random_numbers_are_pytorchs_and_go_on_from_each_others_state(seed: int) -> None:
    ours, theirs = Generator().manual_seed(seed), torch.Generator().manual_seed(seed)
    for shape in ((20,), (20, 10, 1, 1), (700,), (624,), (1,)):
        expected = torch.rand(shape, generator=theirs)
        assert np.array_equal(in_numpy.rand(shape, generator=ours), expected.numpy())
        ours, theirs = (
            Generator().set_state(as_tensor(theirs.get_state().numpy())),
            torch.Generator().set_state(torch.from_numpy(ours.get_state().numpy())),
        )


def test_what_is_no_state_of_a_generator_is_refused() -> None:
    good = Generator().get_state()
    for bad in (good[:-1], good.astype(np.int32), as_tensor(np.zeros_like(good)), np.empty(0)):
        with pytest.raises(RuntimeError):
            Generator().set_state(bad)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    ("size", "to"), [((24, 32), (96, 128)), ((48, 64), (360, 480)), ((33, 47), (20, 31))]
)
def test_a_bilinear_resize_is_pytorchs(
    size: tuple[int, int], to: tuple[int, int], align_corners: bool
) -> None:
    images = np.random.default_rng(0).normal(size=(1, 5, *size)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(images), to, mode="bilinear", align_corners=align_corners
    ).numpy()
    resize: Any = in_numpy.ops.aten.upsample_bilinear2d
    found = resize(as_tensor(images), list(to), align_corners, None, None)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5
    place = in_numpy.empty(1, 5, *to)
    assert resize.out(as_tensor(images), list(to), align_corners, None, None, out=place) is place
    assert np.array_equal(place, found)


def test_functions_are_pytorchs() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(0.1, 2, (2, 3, 4)).astype(np.float32) for _ in range(2))
    whole = rng.integers(0, 5, 30)

    def each(library: Any, of: Any) -> list[Any]:
        x, y = of(a), of(b)
        return [
            library.lerp(x, y, 0.25),
            library.lerp(x, y, 0.75),
            x.lerp(y, of(b / 2)),
            library.linspace(0.7, 1.0, 7),
            library.linspace(0.7, 1.0, 1),
            library.log_softmax(x, 1),
            library.where(x > y, x, 0.0),
            library.bincount(of(whole), minlength=8),
            library.cat((x, y), 1) if library is in_numpy else library.cat((x, y), dim=1),
            library.stack((x, y)),
            library.tensor([1.5, 2]),
            library.addcmul(x, y, y, out=library.empty(2, 3, 4)),
            *library.split(x, 2, 2),
            x.mean((0, 2), keepdim=True),
            x.sum(1),
            x.flip(2),
            x.transpose(1, 2),
            x.permute(2, 0, 1),
            x.view(6, 4),
            x[0, 0].repeat(3),
            x.clamp(min=1.0),
            x.log().abs().square().rsqrt(),
            of(whole[:3]).repeat_interleave(of(whole[3:6])),
            x.isfinite(),
            x.argmax(1),
        ]

    pairs = zip(each(in_numpy, as_tensor), each(torch, torch.from_numpy), strict=True)
    for index, (found, expected) in enumerate(pairs):
        assert tuple(found.shape) == tuple(expected.shape), index
        assert str(found.dtype) == str(expected.dtype).removeprefix("torch."), index
        assert np.allclose(found, expected.numpy(), rtol=2e-6, atol=1e-6), index
