from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ocl_edge.network.zoo.demo import MEAN, STD, build, normalise
from ocl_edge_app.demo.world.classes import CLASSES, PALETTE
from ocl_edge_app.demo.world.drive import drive
from ocl_edge_app.demo.world.measure import SHIPPED, load_shipped, with_current_norms
from ocl_edge_app.demo.world.scene import HEIGHT, WIDTH
from ocl_edge_app.demo.world.train import HELD_OUT_SEED, checkpoint_of, confusion, draw_frames, train
from ocl_edge_export.checkpoint import read_checkpoint


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """For a network this small two threads on a busy machine wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shipped() -> nn.Module:
    return load_shipped()


@pytest.fixture(scope="module")
def held_out() -> tuple[Tensor, Tensor]:
    return draw_frames(HELD_OUT_SEED + 50, 2)


def test_logits_have_the_size_of_the_image() -> None:
    network = build(classes=7, width=8).eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 64, 96)).shape == (2, 7, 64, 96)


def test_everything_but_the_head_is_normalised() -> None:
    network = build()
    convolutions = [name for name, m in network.named_modules() if isinstance(m, nn.Conv2d)]
    norms = [name for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert convolutions[-1] == "classifier"
    assert sorted(norms) == sorted(f"{name}_norm" for name in convolutions[:-1])


def test_exports_with_a_free_batch_size() -> None:
    network = build(width=8).eval()
    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(
        network, (torch.zeros(2, 3, 64, 96),), dynamic_shapes=({0: batch},)
    ).module()
    images = torch.randn(3, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(program(images), network(images), rtol=1e-4, atol=1e-4)


def test_normalise_equals_the_formula() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 4, 5, 3), dtype=np.uint8)
    expected = (pixels / 255 - np.array(MEAN)) / np.array(STD)
    found = normalise(torch.from_numpy(pixels)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_shipped_checkpoint_is_small_plain_and_says_what_it_is() -> None:
    assert SHIPPED.stat().st_size < 2_000_000
    content = torch.load(SHIPPED, weights_only=True)
    assert set(content) == {"ocl_edge", "state_dict"}
    metadata = read_checkpoint(SHIPPED).metadata
    assert metadata.input_size == (HEIGHT, WIDTH)
    assert metadata.classes == list(CLASSES)
    assert metadata.palette == list(PALETTE)
    assert (metadata.mean, metadata.std) == (MEAN, STD)


def test_the_shipped_network_is_good_by_day(shipped: nn.Module, held_out: tuple[Tensor, Tensor]) -> None:
    matrix = confusion(shipped, *held_out)
    assert matrix.miou() > 0.80
    assert np.nanmin(matrix.iou()) > 0.40


def test_prior_one_is_the_frozen_network(shipped: nn.Module, held_out: tuple[Tensor, Tensor]) -> None:
    image = normalise(held_out[0][:1])
    with torch.no_grad():
        torch.testing.assert_close(
            with_current_norms(shipped, 1.0)(image), shipped(image), rtol=1e-3, atol=1e-3
        )


def test_prior_zero_normalises_with_the_images_own_statistics(shipped: nn.Module) -> None:
    """Against PyTorch's own training mode, whose variance is biased: with many pixels almost the same."""
    image = torch.randn(1, 3, HEIGHT, WIDTH)
    training = copy.deepcopy(shipped).train()
    with torch.no_grad():
        found, expected = with_current_norms(shipped, 0.0)(image), training(image)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))


def test_current_norms_mix_with_unbiased_variance() -> None:
    norm = nn.BatchNorm2d(3).eval()
    norm.running_mean, norm.running_var = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([1.5, 0.3, 4.0])
    x = torch.randn(1, 3, 2, 3)
    pixels = x.numpy().reshape(3, 6).astype(np.float64)
    mean = 0.7 * norm.running_mean.numpy() + 0.3 * pixels.mean(1)
    var = 0.7 * norm.running_var.numpy() + 0.3 * pixels.var(1, ddof=1)
    expected = (pixels - mean[:, None]) / np.sqrt(var + norm.eps)[:, None]
    found = with_current_norms(nn.Sequential(norm), 0.7)(x).detach().numpy().reshape(3, 6)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_bad_weather_is_a_shift_that_norms_partly_undo(shipped: nn.Module) -> None:
    frames = list(drive(10, seed=20))
    images = torch.from_numpy(np.stack([f.image for f in frames]))
    labels = torch.from_numpy(np.stack([f.labels for f in frames]))
    day = confusion(shipped, images[:2], labels[:2]).miou()
    gains = []
    modulated = with_current_norms(shipped, 0.85)
    for index in (3, 5, 7, 9):  # the second frame of fog, rain, dusk and night: the weather has turned
        frame = images[index : index + 1], labels[index : index + 1]
        frozen = confusion(shipped, *frame).miou()
        assert frozen < day - 0.15, frames[index].stretch
        gains.append(confusion(modulated, *frame).miou() - frozen)
    assert np.mean(gains) > 0.03


def test_training_is_reproducible_and_gives_a_plain_checkpoint(held_out: tuple[Tensor, Tensor]) -> None:
    images, labels = held_out[0][:8, 64:160, :160], held_out[1][:8, 64:160, :160]
    one, other = (train(images, labels, steps=2, seed=5) for _ in range(2))
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert not one.training
    assert checkpoint_of(one)["ocl_edge"] == torch.load(SHIPPED, weights_only=True)["ocl_edge"]
