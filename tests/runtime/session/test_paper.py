"""Paper mode against an independent transcription of the published formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ocl_edge.bundle.manifest_parts import ClassSpec
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BundleError, FrameError, UsageError
from ocl_edge.method.verdict import Reason
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import SessionOptions
from tests.doubles import small_network
from tests.doubles.images import random_image

PRIOR, LR, MOMENTUM, DECAY = 0.8, 0.3, 0.9, 5e-4


class ReferenceLoop:
    """The published loop, restricted to the head: eager network, patched norms, Gram matrix, SGD by hand."""

    def __init__(self, prior: float, trains: str = "head") -> None:
        self.network = small_network.trained()
        wanted = {
            "head": lambda name: name.startswith("classifier"),
            "all": lambda _name: True,
            "norm affine": lambda name: "norm." in name or name.startswith("gate.2"),
        }[trains]
        self.trained = {name: p for name, p in self.network.named_parameters() if wanted(name)}
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.forward = self._modulated(module, prior)  # type: ignore[method-assign]
        self.velocity = {name: torch.zeros_like(p) for name, p in self.trained.items()}

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

    def step(
        self, image: np.ndarray, lr: float = LR, decay: float = DECAY, entropy: bool = False
    ) -> tuple[np.ndarray, float]:
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
        if entropy:
            both = torch.stack((one, two))
            loss = -(both.softmax(1) * both.softmax(1).log()).sum(1).mean()
        gradients = torch.autograd.grad(loss, list(self.trained.values()))
        with torch.no_grad():
            for (name, parameter), gradient in zip(self.trained.items(), gradients, strict=True):
                self.velocity[name].mul_(MOMENTUM).add_(gradient + decay * parameter)
                parameter.sub_(lr * self.velocity[name])
        return averaged.argmax(1)[0].detach().numpy().astype(np.uint8), loss.item()


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_paper_mode_equals_the_published_loop_step_by_step(small_bundle: Bundle, backend: str) -> None:
    session = open_session(
        small_bundle,
        SessionOptions("ocl-head", backend=backend, prior=PRIOR, lr=LR, restoration=0.0, opening=1.0),
    )
    reference = ReferenceLoop(PRIOR)
    for index in range(12):
        image = random_image(index)
        expected_mask, expected_loss = reference.step(image)
        result = session.step(image)
        assert result.verdict.applied
        assert result.verdict.loss == pytest.approx(expected_loss, rel=1e-5)
        assert (result.mask != expected_mask).mean() < 0.002
        assert len(np.unique(result.mask)) >= 3
    ours, theirs = session.weights.parameters, dict(reference.network.classifier.named_parameters())
    assert session.weights.distance_from_trained() > 0.01
    for name, value in theirs.items():
        assert torch.allclose(ours[f"classifier.{name}"], value, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "trains"),
    [("ocl-full", "all"), ("ocl-norm", "norm affine"), ("tent", "norm affine"), ("tent-head", "head")],
)
def test_the_other_methods_equal_their_formulas_over_twenty_frames(
    small_bundle: Bundle, method: str, trains: str
) -> None:
    lr = 0.01 if trains != "head" else 0.1
    session = open_session(
        small_bundle, SessionOptions(method, prior=PRIOR, lr=lr, restoration=0.0, opening=1.0)
    )
    reference = ReferenceLoop(PRIOR, trains)
    for index in range(20):
        image = random_image(index)
        _, expected = reference.step(
            image, lr, session.setup.settings.weight_decay, method.startswith("tent")
        )
        assert session.step(image).verdict.loss == pytest.approx(expected, rel=2e-5)
    ours = {
        name.removeprefix("backbone.").removeprefix("head."): p
        for name, p in session.weights.parameters.items()
    }
    assert ours.keys() == reference.trained.keys()
    assert session.weights.distance_from_trained() > 0.001
    for name, value in reference.trained.items():
        assert torch.allclose(ours[name], value, atol=1e-4), name


def test_norm_modulates_and_trains_nothing(small_bundle: Bundle) -> None:
    norm, head = (
        open_session(small_bundle, SessionOptions("norm", opening=1.0)),
        open_session(small_bundle, SessionOptions(lr=0.0, restoration=0, opening=1.0)),
    )
    frozen = open_session(small_bundle, SessionOptions("frozen", "pair"))
    image = random_image(3)
    assert np.array_equal(norm.step(image).mask, head.step(image).mask)
    assert norm.weights.distance_from_trained() == 0
    assert not np.array_equal(norm.step(image).mask, frozen.step(image).mask)


@pytest.mark.parametrize("views", ["single", "pair"])
def test_frozen_mode_equals_the_network_and_changes_nothing(small_bundle: Bundle, views: str) -> None:
    session = open_session(small_bundle, SessionOptions("frozen", views))  # type: ignore[arg-type]
    network, before = small_network.trained(), session.weights.weights_sha256()
    for index in range(3):
        image = random_image(index, 48, 64)
        result = session.step(image)
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
            [0.229, 0.224, 0.225]
        ).view(3, 1, 1)
        with torch.no_grad():
            logits = network(x) if views == "single" else (network(x) + network(x.flip(3)).flip(3)) / 2
        assert (result.mask != logits.argmax(1)[0].numpy()).mean() < 0.002
        assert (result.verdict.applied, str(result.verdict), result.verdict.loss) == (
            False,
            "nothing trains",
            None,
        )
    assert session.weights.weights_sha256() == before


def test_the_mask_is_made_before_the_update(small_bundle: Bundle) -> None:
    image = random_image(0)
    wild = open_session(small_bundle, SessionOptions(lr=1e4, restoration=0.0, opening=1.0))
    calm = open_session(small_bundle, SessionOptions(lr=0.0, restoration=0.0, opening=1.0))
    mask = wild.predict(image)
    before = wild.weights.weights_sha256()
    assert np.array_equal(mask, calm.predict(image))
    assert wild.adapt().applied
    assert wild.weights.weights_sha256() != before
    assert not np.array_equal(wild.predict(image), mask)


def test_adapting_twice_on_one_frame_does_nothing(small_bundle: Bundle) -> None:
    session = open_session(small_bundle, SessionOptions(opening=1.0))
    session.predict(random_image(0))
    assert session.adapt().applied
    once = session.weights.weights_sha256()
    assert session.adapt().reason is Reason.NO_FRAME
    assert session.weights.weights_sha256() == once


def test_seeds_make_runs_repeatable(small_bundle: Bundle) -> None:
    hashes = []
    for seed in (0, 0, 1):
        session = open_session(small_bundle, SessionOptions(seed=seed, opening=1.0))
        for index in range(4):
            session.step(random_image(index))
        hashes.append(session.weights.weights_sha256())
    assert hashes[0] == hashes[1] != hashes[2]


def test_every_stage_is_timed(small_bundle: Bundle) -> None:
    stages = list(open_session(small_bundle, SessionOptions(opening=1.0)).step(random_image(0)).timings_ms)
    assert stages == ["preprocess", "backbone", "head", "tail", "loss", "backward", "step", "restore"]


def test_a_wrong_image_is_refused_and_the_next_one_works(small_bundle: Bundle) -> None:
    session = open_session(small_bundle, SessionOptions(opening=1.0))
    with pytest.raises(FrameError, match="NaN"):
        session.step(np.full((8, 8, 3), np.nan))
    assert session.step(random_image(0)).verdict.applied


def test_paper_mode_refuses_a_single_view(small_bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="view pair"):
        open_session(small_bundle, SessionOptions("ocl-head", "single", opening=1.0))


def test_more_classes_than_a_mask_can_hold_are_refused(small_bundle: Bundle) -> None:
    manifest = small_bundle.manifest
    classes = tuple(ClassSpec(name=f"class_{index}", colour=(0, 0, 0)) for index in range(65536))
    many = Bundle(small_bundle.path, manifest.model_copy(update={"classes": classes}), "")
    with pytest.raises(BundleError, match="65536 classes; a mask has at most 16 bits"):
        open_session(many)
