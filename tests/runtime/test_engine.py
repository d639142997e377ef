"""Paper mode against an independent transcription of the published formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import random_image
from torch import nn
from torch.nn import functional as F

import small_network
from ocl_edge.bundle import Bundle
from ocl_edge.errors import FrameError, UsageError
from ocl_edge_runtime.engine import Engine, EngineOptions

PRIOR, LR, MOMENTUM, DECAY = 0.8, 0.3, 0.9, 5e-4


class ReferenceLoop:
    """The published loop, restricted to the head: eager network, patched norms, Gram matrix, SGD by hand."""

    def __init__(self, prior: float) -> None:
        self.network = small_network.trained()
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.forward = self._modulated(module, prior)  # type: ignore[method-assign]
        self.velocity = {name: torch.zeros_like(p) for name, p in self.network.classifier.named_parameters()}

    @staticmethod
    def _modulated(norm: nn.BatchNorm2d, prior: float):  # type: ignore[no-untyped-def]
        def forward(x: torch.Tensor) -> torch.Tensor:
            if x.shape[2] * x.shape[3] == 1:
                return F.batch_norm(
                    x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0, norm.eps
                )
            mean = prior * norm.running_mean + (1 - prior) * x.mean((0, 2, 3)).detach()
            var = prior * norm.running_var + (1 - prior) * x.var((0, 2, 3), unbiased=True).detach()
            return F.batch_norm(x, mean, var, norm.weight, norm.bias, False, 0, norm.eps)

        return forward

    def step(self, image: np.ndarray) -> tuple[np.ndarray, float]:
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        x = F.interpolate(x, (48, 64), mode="bilinear", align_corners=False) / 255
        x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
            [0.229, 0.224, 0.225]
        ).view(3, 1, 1)
        logits = []
        hook = self.network.classifier.register_forward_hook(lambda _m, _i, output: logits.append(output))
        self.network(torch.cat((x, x.flip(3))))
        hook.remove()
        one, two = logits[0][0], logits[0][1].flip(2)
        averaged = F.interpolate(
            ((one + two) / 2)[None], image.shape[:2], mode="bilinear", align_corners=True
        )
        q = [F.normalize(F.softmax(z, 0), dim=0).flatten(1) for z in (one, two)]
        loss = -3 * (q[0] * q[1]).sum(0).mean() + sum((v.T @ v).mean() for v in q) / 2
        head = dict(self.network.classifier.named_parameters())
        gradients = torch.autograd.grad(loss, list(head.values()))
        with torch.no_grad():
            for (name, parameter), gradient in zip(head.items(), gradients, strict=True):
                self.velocity[name].mul_(MOMENTUM).add_(gradient + DECAY * parameter)
                parameter.sub_(LR * self.velocity[name])
        return averaged.argmax(1)[0].detach().numpy().astype(np.uint8), loss.item()


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_paper_mode_equals_the_published_loop_step_by_step(small_bundle: Bundle, backend: str) -> None:
    engine = Engine(
        small_bundle, EngineOptions("paper", backend=backend, prior=PRIOR, lr=LR, restoration=0.0)
    )
    reference = ReferenceLoop(PRIOR)
    for index in range(12):
        image = random_image(index)
        expected_mask, expected_loss = reference.step(image)
        result = engine.step(image)
        assert result.adapted
        assert result.loss == pytest.approx(expected_loss, rel=1e-5)
        assert (result.mask != expected_mask).mean() < 0.002
    ours, theirs = engine.head.parameters, dict(reference.network.classifier.named_parameters())
    assert engine.head.distance_from_source() > 0.01
    for name, value in theirs.items():
        assert torch.allclose(ours[f"classifier.{name}"], value, atol=1e-5)


@pytest.mark.parametrize("views", ["single", "pair"])
def test_frozen_mode_equals_the_network_and_changes_nothing(small_bundle: Bundle, views: str) -> None:
    engine = Engine(small_bundle, EngineOptions("frozen", views))  # type: ignore[arg-type]
    network, before = small_network.trained(), engine.head.weights_sha256()
    for index in range(3):
        image = random_image(index, 48, 64)
        result = engine.step(image)
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
            [0.229, 0.224, 0.225]
        ).view(3, 1, 1)
        with torch.no_grad():
            logits = network(x) if views == "single" else (network(x) + network(x.flip(3)).flip(3)) / 2
        assert (result.mask != logits.argmax(1)[0].numpy()).mean() < 0.002
        assert (result.adapted, result.reason, result.loss) == (False, "frozen", None)
    assert engine.head.weights_sha256() == before


def test_the_mask_is_made_before_the_update(small_bundle: Bundle) -> None:
    image = random_image(0)
    wild = Engine(small_bundle, EngineOptions(lr=1e4, restoration=0.0))
    calm = Engine(small_bundle, EngineOptions(lr=0.0, restoration=0.0))
    mask = wild.predict(image)
    before = wild.head.weights_sha256()
    assert np.array_equal(mask, calm.predict(image))
    assert wild.adapt() is not None
    assert wild.head.weights_sha256() != before
    assert not np.array_equal(wild.predict(image), mask)


def test_adapting_twice_on_one_frame_does_nothing(small_bundle: Bundle) -> None:
    engine = Engine(small_bundle)
    engine.predict(random_image(0))
    assert engine.adapt() is not None
    assert engine.adapt() is None


def test_seeds_make_runs_repeatable(small_bundle: Bundle) -> None:
    hashes = []
    for seed in (0, 0, 1):
        engine = Engine(small_bundle, EngineOptions(seed=seed))
        for index in range(4):
            engine.step(random_image(index))
        hashes.append(engine.head.weights_sha256())
    assert hashes[0] == hashes[1] != hashes[2]


def test_every_stage_is_timed(small_bundle: Bundle) -> None:
    stages = list(Engine(small_bundle).step(random_image(0)).timings_ms)
    assert stages == ["preprocess", "backbone", "head", "tail", "loss", "backward", "step", "restore"]


def test_a_wrong_image_is_refused_and_the_next_one_works(small_bundle: Bundle) -> None:
    engine = Engine(small_bundle)
    with pytest.raises(FrameError, match="NaN"):
        engine.step(np.full((8, 8, 3), np.nan))
    assert engine.step(random_image(0)).adapted


def test_paper_mode_refuses_a_single_view(small_bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="view pair"):
        Engine(small_bundle, EngineOptions("paper", "single"))
