"""Methods of other papers against transcriptions of their formulas on the eager network."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import UsageError
from ocl_edge.method.methods import PUBLISHED
from ocl_edge.method.published import cotta, diga, eata, rotta, sar
from ocl_edge.method.verdict import Reason
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.session import Session
from tests.doubles import small_network
from tests.doubles.bundles import SMALL_ARCH
from tests.doubles.images import random_image

Statistics = Callable[[int, Tensor, nn.BatchNorm2d], tuple[Tensor, Tensor]]
NORMS = ("stem_norm", "join_norm", "gate.2", "narrow_norm")
AFFINE = [f"{norm}.{kind}" for norm in NORMS[:3] for kind in ("weight", "bias")]
"""The last norm has neither."""


def of_frame(_index: int, x: Tensor, _norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    return x.mean((0, 2, 3)).detach(), x.var((0, 2, 3), unbiased=True).detach()


class Eager:
    """The small network, its norms with chosen statistics; a norm of one position keeps the trained ones."""

    def __init__(self, statistics: Statistics) -> None:
        self.network = small_network.trained()
        self.statistics = statistics
        self.parameters = dict(self.network.named_parameters())
        self.trained = {name: p.detach().clone() for name, p in self.parameters.items()}
        for index, name in enumerate(NORMS):
            norm = self.network.get_submodule(name)
            norm.forward = self._normalise(index, norm)  # type: ignore

    def _normalise(self, index: int, norm: nn.BatchNorm2d):  # type: ignore[no-untyped-def]
        def forward(x: Tensor) -> Tensor:
            mean, var = norm.running_mean, norm.running_var
            if x.shape[2] * x.shape[3] > 1:
                mean, var = self.statistics(index, x, norm)
            return F.batch_norm(x, mean, var, norm.weight, norm.bias, False, 0, norm.eps)

        return forward

    def see(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits at the network's own resolution, and the features that they are made from."""
        found: list[tuple[Tensor, Tensor]] = []
        hook = self.network.classifier.register_forward_hook(lambda _m, i, o: found.append((o, i[0])))
        self.network(x)
        hook.remove()
        return found[0]

    def restored(self) -> None:
        with torch.no_grad():
            for name, value in self.trained.items():
                self.parameters[name].copy_(value)


def preprocessed(image: NDArray[np.uint8]) -> Tensor:
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    x = F.interpolate(x, (48, 64), mode="bilinear", align_corners=False) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (x - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def mask_of(scores: Tensor, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    large = F.interpolate(scores.detach(), image.shape[:2], mode="bilinear", align_corners=True)
    return large.argmax(1)[0].numpy().astype(np.uint8)


def entropies(logits: Tensor) -> Tensor:
    p = logits.softmax(1)
    return -(p * p.log()).sum(1)


def opened(bundle: Bundle, method: str, **options: float) -> Session:
    return open_session(bundle, SessionOptions(method, **options))  # type: ignore[arg-type]


def own_names(session: Session) -> dict[str, Tensor]:
    return {
        name.removeprefix("backbone.").removeprefix("head."): p
        for name, p in session.weights.parameters.items()
    }


def assert_equal_weights(session: Session, expected: dict[str, Tensor], atol: float = 2e-5) -> None:
    of_no_effect = ("right.bias", "narrow.bias")  # a norm follows: Adam's steps there are noise
    ours = {name: value for name, value in own_names(session).items() if name not in of_no_effect}
    expected = {name: value for name, value in expected.items() if name not in of_no_effect}
    assert ours.keys() == expected.keys()
    assert session.weights.distance_from_trained() > 1e-4
    for name, value in expected.items():
        assert torch.allclose(ours[name], value, atol=atol), name


def test_tent_goes_down_the_entropy_with_adam(small_bundle: Bundle) -> None:
    session, eager = opened(small_bundle, "tent-published"), Eager(of_frame)
    trained = {name: eager.parameters[name] for name in AFFINE}
    adam = torch.optim.Adam(trained.values(), lr=1e-3)
    for index in range(8):
        image = random_image(index)
        logits, _ = eager.see(preprocessed(image))
        loss = entropies(logits).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        result = session.step(image)
        assert result.verdict.loss == pytest.approx(loss.item(), rel=1e-4)
        assert (result.mask != mask_of(logits, image)).mean() < 0.002
        assert list(result.timings_ms) == ["preprocess", "backbone", "tail", "step"]
    assert_equal_weights(session, trained, atol=1e-4)


def test_sar_takes_the_gradient_uphill_where_predictions_are_reliable(small_bundle: Bundle) -> None:
    session, eager = opened(small_bundle, "sar", lr=0.05), Eager(of_frame)
    trained = {name: eager.parameters[name] for name in AFFINE[:5]}
    sgd = torch.optim.SGD(trained.values(), lr=0.05, momentum=0.9)
    limit, averages = 0.4 * math.log(small_network.CLASSES), []
    for index in range(6):
        image = random_image(index)
        x = preprocessed(image)
        logits, _ = eager.see(x)
        entropy = entropies(logits)
        reliable = entropy < limit
        assert 0 < reliable.float().mean() < 1
        slope = torch.autograd.grad(entropy[reliable].mean(), list(trained.values()))
        length = torch.cat([part.flatten() for part in slope]).norm()
        way = [0.05 * part / length for part in slope]
        with torch.no_grad():
            for parameter, part in zip(trained.values(), way, strict=True):
                parameter.add_(part)
        second = entropies(eager.see(x)[0])[reliable]
        loss = second[second < limit].mean()
        sgd.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter, part in zip(trained.values(), way, strict=True):
                parameter.sub_(part)
        sgd.step()
        averages.append(
            second.mean().item() if not averages else 0.9 * averages[-1] + 0.1 * second.mean().item()
        )
        result = session.step(image)
        assert result.verdict.loss == pytest.approx(loss.item(), rel=1e-4)
        assert (result.mask != mask_of(logits, image)).mean() < 0.002
    assert min(averages) > sar.COLLAPSED, "no recovery so far"
    assert_equal_weights(session, trained)
    assert session.export_state()[0]["memory.loss"].item() == pytest.approx(averages[-1], rel=1e-4)


def test_sar_goes_back_where_its_loss_collapses(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(small_bundle, "sar", lr=0.05)
    session.step(random_image(0))
    assert session.weights.distance_from_trained() > 0
    monkeypatch.setattr(sar, "COLLAPSED", 10.0)
    session.step(random_image(1))
    assert session.weights.distance_from_trained() == 0


def test_eata_learns_from_reliable_and_new_pixels_and_holds_important_weights(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eata, "ALIKE", 0.9)  # the small network's predictions differ little
    monkeypatch.setattr(eata, "HELD", 1000.0)
    session, eager = opened(small_bundle, "eata", lr=0.02), Eager(of_frame)
    trained = {name: eager.parameters[name] for name in AFFINE}
    fisher = {name: torch.zeros_like(p) for name, p in trained.items()}
    for index in range(4):
        logits, _ = eager.see(preprocessed(random_image(index)))
        slope = torch.autograd.grad(F.cross_entropy(logits, logits.argmax(1)), list(trained.values()))
        for name, part in zip(trained, slope, strict=True):
            fisher[name] += part**2 / 4
        assert session.step(random_image(index)).verdict.reason is Reason.NOT_DUE
    assert session.weights.distance_from_trained() == 0
    sgd = torch.optim.SGD(trained.values(), lr=0.02, momentum=0.9)
    limit, average = 0.4 * math.log(small_network.CLASSES), None
    for index in range(4, 10):
        logits, _ = eager.see(preprocessed(random_image(index)))
        entropy, p = entropies(logits)[0], logits.detach().softmax(1)[0]
        chosen = entropy < limit
        if average is not None:
            cosine = torch.einsum("chw,c->hw", p, average) / (p.norm(dim=0) * average.norm())
            assert 0 < (chosen & (cosine < 0.9)).sum() < chosen.sum(), "both filters count"
            chosen = chosen & (cosine < 0.9)
        new = p[:, chosen].mean(1)
        average = new if average is None else 0.9 * average + 0.1 * new
        weighed = (entropy * torch.exp(limit - entropy.detach()))[chosen].mean()
        moved = sum((fisher[n] * (q - eager.trained[n]) ** 2).sum() for n, q in trained.items())
        loss = weighed + 1000 * moved
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        assert session.step(random_image(index)).verdict.loss == pytest.approx(loss.item(), rel=1e-4)
    assert 1000 * moved.item() > 0.01 * weighed.item(), "what holds the weights counts"
    assert_equal_weights(session, trained)


@pytest.mark.parametrize("sure", [0.0, 1.1])
def test_cotta_follows_its_own_average_over_views_where_it_is_unsure(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, sure: float
) -> None:
    monkeypatch.setattr(cotta, "SURE", sure)
    session = opened(small_bundle, "cotta", lr=2e-4, restoration=0.0)
    student, teacher = Eager(of_frame), Eager(of_frame)
    state, facts = session.export_state()
    with torch.no_grad():  # else the first gradient is noise, which Adam makes as large as any
        for name, average in teacher.parameters.items():
            part = "head" if name.startswith("classifier") else "backbone"
            average.mul_(1.05)
            state[f"memory.teacher.{part}.{name}"] = average.detach().clone()
    session.import_state(state, facts)
    adam = torch.optim.Adam(student.parameters.values(), lr=2e-4)
    for index in range(5):
        image = random_image(index)
        x = preprocessed(image)
        with torch.no_grad():
            taught, _ = teacher.see(x)
            if sure > 1:
                taught = (taught + teacher.see(x.flip(3))[0].flip(3)) / 2
        loss = -(taught.softmax(1) * student.see(x)[0].log_softmax(1)).sum(1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            for name, average in teacher.parameters.items():
                average.copy_(0.999 * average + 0.001 * student.parameters[name])
        result = session.step(image)
        assert result.verdict.loss == pytest.approx(loss.item(), rel=1e-4)
        assert (result.mask != mask_of(taught, image)).mean() < 0.002
    assert_equal_weights(session, student.parameters, atol=1e-4)
    remembered = session.export_state()[0]
    kept = remembered["memory.teacher.head.classifier.weight"]
    assert torch.allclose(kept, teacher.parameters["classifier.weight"], atol=1e-6)
    assert not torch.equal(kept, teacher.trained["classifier.weight"])


def test_cotta_restores_weights_by_chance_and_never_the_teacher(small_bundle: Bundle) -> None:
    session = opened(small_bundle, "cotta", lr=1e-3, restoration=0.25)
    for index in range(3):
        session.step(random_image(index))
    ours, trained = session.weights.parameters, session.weights.trained
    back = torch.cat([(p == trained[name]).flatten() for name, p in ours.items()]).float().mean()
    assert 0.2 < back < 0.5
    teacher = session.export_state()[0]
    assert all((teacher[f"memory.teacher.{name}"] != p).any() for name, p in trained.items() if p.dim() == 4)


def test_diga_mixes_statistics_and_tells_classes_by_prototypes(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diga, "SURE", 0.45)  # the small network is seldom surer
    session = opened(small_bundle, "diga")

    def mixed(_index: int, x: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
        mean, var = of_frame(0, x, norm)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        return 0.8 * norm.running_mean + 0.2 * mean, 0.8 * norm.running_var + 0.2 * var

    eager, past = Eager(mixed), {}
    changed = 0.0
    for index in range(6):
        image = random_image(index)
        logits, features = eager.see(preprocessed(image))
        p, f = logits.softmax(1)[0].detach(), features[0].detach()
        confidence, classes = p.max(0)
        own = {}
        for each in range(small_network.CLASSES):
            where = (classes == each) & (confidence >= 0.45)
            if where.any():
                own[each] = f[:, where].mean(1)
                past[each] = 0.9 * past[each] + 0.1 * own[each] if each in past else own[each]
        assert 1 < len(own) <= len(past)

        def told_by(prototypes: dict[int, Tensor], f: Tensor = f, p: Tensor = p) -> Tensor:
            near = torch.zeros_like(p)
            for each, prototype in prototypes.items():
                near[each] = torch.exp(-(f - prototype[:, None, None]).norm(dim=0))
            return near / near.sum(0)

        scores = 0.8 * (0.8 * told_by(past) + 0.2 * told_by(own)) + 0.2 * p
        result = session.step(image)
        assert (result.mask != mask_of(scores[None], image)).mean() < 0.002
        changed += float((mask_of(scores[None], image) != mask_of(logits, image)).mean())
    assert changed > 0.01, "prototypes decide something"
    assert session.step(random_image(9)).verdict.reason is Reason.NOTHING_TRAINS


def test_adabn_normalises_with_all_frames_so_far(small_bundle: Bundle) -> None:
    session = opened(small_bundle, "adabn")
    seen: dict[int, list[tuple[Tensor, Tensor]]] = {index: [] for index in range(4)}

    def of_all(index: int, x: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
        seen[index].append(of_frame(index, x, norm))
        means, variances = (torch.stack(parts) for parts in zip(*seen[index], strict=True))
        return means.mean(0), variances.mean(0) + means.var(0, unbiased=False)

    eager, alone = Eager(of_all), Eager(of_frame)
    for index in range(6):
        image = random_image(index) // (1 + index)  # ever darker
        logits, _ = eager.see(preprocessed(image))
        result = session.step(image)
        assert result.verdict.reason is Reason.NOTHING_TRAINS
        assert (result.mask != mask_of(logits, image)).mean() < 0.002
    assert (result.mask != mask_of(alone.see(preprocessed(image))[0], image)).mean() > 0.01
    means = torch.stack([mean for mean, _ in seen[0]]).mean(0)
    assert torch.allclose(session.export_state()[0]["memory.statistics"][0, :8], means, atol=1e-5)


def test_rotta_learns_from_remembered_frames_and_renews_its_statistics(
    small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotta, "EVERY", 4)
    session = opened(small_bundle, "rotta", lr=0.02)
    so_far: dict[int, tuple[Tensor, Tensor]] = {}
    found: dict[int, list[tuple[Tensor, Tensor]]] = {index: [] for index in range(4)}
    share = {"of the frame": 0.0}

    def robust(index: int, x: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
        own = of_frame(index, x, norm)
        found[index].append(own)
        before = so_far.get(index, (norm.running_mean, norm.running_var))
        new = share["of the frame"]
        mean, var = ((1 - new) * b + new * o for b, o in zip(before, own, strict=True))  # type: ignore
        return mean, var

    teacher, student = Eager(robust), Eager(robust)
    trained = {name: student.parameters[name] for name in AFFINE}
    adam = torch.optim.Adam(trained.values(), lr=0.02)
    images = [random_image(index) // 2 for index in range(4)]
    for image in images[:3]:
        assert session.step(image).verdict.reason is Reason.NOT_DUE
    share["of the frame"], measured, losses = 0.05, [], []
    generator = torch.Generator().manual_seed(0)
    for index, x in enumerate(map(preprocessed, images)):
        taught = teacher.see(x)[0].detach()
        measured.append([found[norm][-1] for norm in (0, 1, 3)])
        view = x.flip(3) if index % 2 else x
        contrast, brightness = (0.6 + 0.8 * torch.rand(2, generator=generator)).tolist()
        noise = 0.005 * torch.randn(x.shape, generator=generator)
        own, _ = student.see((view - view.mean()) * contrast + view.mean() * brightness + noise)
        own = own.flip(3) if index % 2 else own
        age = (4 - index) / 16
        timely = math.exp(-age) / (1 + math.exp(-age))
        losses.append(timely * -(taught.softmax(1) * own.log_softmax(1)).sum(1).mean() / 4)
    loss = sum(losses)
    loss.backward()
    adam.step()
    assert session.step(images[3]).verdict.loss == pytest.approx(loss.item(), rel=1e-4)
    assert_equal_weights(session, trained, atol=1e-4)
    norms = [teacher.network.get_submodule(NORMS[norm]) for norm in (0, 1, 3)]
    for place, (norm, name) in enumerate(zip((0, 1, 3), norms, strict=True)):
        new = [torch.stack([frame[place][row] for frame in measured]).mean(0) for row in range(2)]
        before = (name.running_mean, name.running_var)
        so_far[norm] = tuple(0.95 * b + 0.05 * n for b, n in zip(before, new, strict=True))  # type: ignore
    with torch.no_grad():
        for name in AFFINE:
            teacher.parameters[name].lerp_(student.parameters[name], 0.001)
    share["of the frame"] = 0.0
    image = random_image(5)
    assert (session.step(image).mask != mask_of(teacher.see(preprocessed(image))[0], image)).mean() < 0.002
    statistics = session.export_state()[0]["memory.statistics"]
    assert torch.allclose(statistics[0, :8], so_far[0][0], atol=1e-5)
    assert torch.allclose(statistics[1, -6:], so_far[3][1], atol=1e-4)


def test_the_published_loop_is_ocl_full_with_the_rates_of_the_paper(small_bundle: Bundle) -> None:
    """`ocl-full` is held to the formulas by itself (test_paper)."""
    session = opened(small_bundle, "ocl-published")
    same = open_session(small_bundle, SessionOptions("ocl-full", prior=0.85, lr=2e-5, opening=1.0))
    for index in range(4):
        ours, theirs = session.step(random_image(index)), same.step(random_image(index))
        assert np.array_equal(ours.mask, theirs.mask)
        assert ours.verdict.loss == theirs.verdict.loss
    assert session.weights.weights_sha256() == same.weights.weights_sha256()
    assert session.setup.views == same.setup.views == "pair"


@pytest.mark.parametrize("method", [method.name for method in PUBLISHED])
def test_a_saved_state_holds_all_that_the_next_frame_depends_on(small_bundle: Bundle, method: str) -> None:
    frames = [random_image(index) for index in range(14)]
    one, other = opened(small_bundle, method), opened(small_bundle, method)
    for image in frames[:9]:
        one.step(image)
    other.import_state(*one.export_state())
    for image in frames[9:]:
        ours, theirs = one.step(image), other.step(image)
        assert np.array_equal(ours.mask, theirs.mask)
        assert str(ours.verdict) == str(theirs.verdict)
        assert ours.verdict.loss == theirs.verdict.loss
    ours, theirs = (session.export_state()[0] for session in (one, other))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("method", [method.name for method in PUBLISHED])
def test_sessions_of_a_method_share_no_weights(small_bundle: Bundle, method: str) -> None:
    first = opened(small_bundle, method)
    masks = [first.step(random_image(index)).mask for index in range(6)]
    second = opened(small_bundle, method)
    assert second.weights.distance_from_trained() == 0
    for mask, index in zip(masks, range(6), strict=True):
        assert np.array_equal(second.step(random_image(index)).mask, mask)


def test_what_published_methods_cannot_do_is_refused(small_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="chooses its views itself"):
        open_session(small_bundle, SessionOptions("cotta", "pair"))
    with pytest.raises(UsageError, match="runs the backbone in PyTorch"):
        open_session(small_bundle, SessionOptions("diga", backend="onnxruntime"))
    with pytest.raises(UsageError, match="realtime mode runs norm, ocl-head and tent-head, not sar"):
        open_session(small_bundle, SessionOptions("sar"), RealtimeOptions())
    torch.save(small_network.WithoutBatchNorm().state_dict(), tmp_path / "other.pth")
    arch = f"{SMALL_ARCH}_without_batch_norm"
    size = (small_network.HEIGHT, small_network.WIDTH)
    request = ExportRequest(tmp_path / "other.pth", tmp_path / "other", arch=arch, input_size=size)
    with pytest.raises(UsageError, match="tent-published works on BatchNorm layers"):
        open_session(export_bundle(request), SessionOptions("tent-published"))


def test_no_gradient_and_no_loss_that_is_not_finite_reaches_the_weights(small_bundle: Bundle) -> None:
    session = opened(small_bundle, "tent-published", lr=1e6)
    for index in range(12):
        session.step(random_image(index))
    assert all(torch.isfinite(p).all() for p in session.weights.parameters.values())
