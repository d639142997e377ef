"""Bundles in which every second norm stays as trained: the same network with fewer norms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from ocl_edge.bundle.reading import Bundle, load_backbone, load_norms
from ocl_edge.errors import UsageError
from ocl_edge.method.mixing import Mixing
from ocl_edge.method.norms import ALTERNATE_PRIOR
from ocl_edge.method.verdict import Reason
from ocl_edge.network.batch_norms import list_norms, some_stay
from ocl_edge.network.form_names import FormName
from ocl_edge_export.capture import capture
from ocl_edge_export.split import split_network
from ocl_edge_export.staying_norms import let_alternate_stay
from ocl_edge_runtime.backends import open_backend, usable_backends
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from tests.doubles.bundles import export_small
from tests.doubles.images import random_image
from tests.doubles.small_network import HEIGHT, WIDTH

MOVE = ("stem_norm", "narrow_norm")
"""Of the small network's: join_norm is the second of three, gate.2 has one position an image."""
HERE = [name for name, reason in usable_backends().items() if reason is None]


@pytest.fixture(scope="module")
def alternate(tmp_path_factory: pytest.TempPathFactory, small_checkpoint: Path) -> Bundle:
    out = tmp_path_factory.mktemp("alternate") / "small"
    return export_small(out, small_checkpoint, stat_rows=1, norms="alternate")


def places_of(bundle: Bundle) -> Tensor:
    """Which of all channels are of norms that move."""
    return torch.cat([torch.full((n.channels,), n.name in MOVE) for n in bundle.manifest.norms])


def test_every_second_norm_that_can_move_is_a_norm(alternate: Bundle, small_bundle: Bundle) -> None:
    assert [norm.name for norm in alternate.manifest.norms] == list(MOVE)
    assert [norm.name for norm in list_norms(load_backbone(alternate))] == list(MOVE)
    assert some_stay(load_backbone(alternate))
    assert not some_stay(load_backbone(small_bundle))
    assert alternate.manifest.adaptation.prior == ALTERNATE_PRIOR == (0.4, 1.0)
    assert alternate.manifest.sensing_norms == [0]
    every, some = load_norms(small_bundle).statistics, load_norms(alternate).statistics
    assert torch.equal(some, every[:, places_of(small_bundle)])


@pytest.mark.parametrize("form", ["modulated", "measured"])
def test_the_others_are_constant_in_every_form(alternate: Bundle, form: str) -> None:
    model = onnx.load(alternate.file(f"backbone.{form}.onnx"), load_external_data=False)
    constants = {tensor.name for tensor in model.graph.initializer}
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    assert len(norms) == 4
    assert sum(all(name in constants for name in norm.input[1:]) for norm in norms) == 2


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("batch", [1, 2])
def test_features_are_those_of_all_norms_where_the_others_weigh_nothing(
    alternate: Bundle, small_bundle: Bundle, backend: str, batch: int
) -> None:
    image = torch.randn(batch, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(batch)) * 2
    move = places_of(small_bundle)
    every, some = load_norms(small_bundle), load_norms(alternate)
    weight = torch.where(move, 0.3, 1.0).expand(2, -1)
    vectors = torch.where(move, 1.2, 1.0) * every.vectors(every.statistics)

    def run(bundle: Bundle, form: FormName, **inputs: Tensor) -> dict[str, Tensor]:
        with open_backend(bundle, backend, 1).backend as opened:
            outputs = opened.infer(form, {"image": image, **{n: t.contiguous() for n, t in inputs.items()}})
            return {name: output.clone() for name, output in outputs.items()}

    def measured(bundle: Bundle, statistics: Tensor, weights: Tensor) -> dict[str, Tensor]:
        mixing = Mixing(weights, between=True).at(1.0)
        return run(bundle, "measured", anchor_statistics=statistics, anchor_weight=mixing)

    of_all = measured(small_bundle, every.statistics, weight)
    of_some = measured(alternate, some.statistics, weight[:, move])
    assert torch.allclose(of_some["features_0"], of_all["features_0"], atol=1e-5)
    assert torch.allclose(of_some["statistics"], of_all["statistics"][:, move], atol=1e-5)
    elsewhere = measured(small_bundle, every.statistics, torch.full_like(weight, 0.3))
    assert not torch.allclose(elsewhere["features_0"], of_all["features_0"], atol=1e-2)
    of_all = run(small_bundle, "modulated", norm_vectors=vectors)
    of_some = run(alternate, "modulated", norm_vectors=vectors[:, move])
    assert torch.allclose(of_some["features_0"], of_all["features_0"], atol=1e-5)


def test_sessions_adapt(alternate: Bundle) -> None:
    options = SessionOptions("ocl-head", backend="onnxruntime", threads=1, opening=1.0)
    with open_session(alternate, options, RealtimeOptions(norm_every=2, statistics_limit=1e9)) as session:
        frames = [session.step(random_image(index)) for index in range(4)]
    assert Reason.ADAPTED in [frame.verdict.reason for frame in frames]


def test_a_published_method_wants_all(alternate: Bundle) -> None:
    with pytest.raises(UsageError, match=r"tent-published moves every BatchNorm.*export the checkpoint"):
        open_session(alternate, SessionOptions("tent-published"))


class Shared(nn.Module):
    """One norm in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.twice, self.once = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.middle, self.last = nn.BatchNorm2d(4), nn.Conv2d(4, 5, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.once(self.twice(self.stem(image)).relu()).relu()
        return self.last(self.middle(self.twice(x).relu()).relu())


def test_a_norm_in_two_places_moves_or_stays_in_both_and_places_go_along() -> None:
    torch.manual_seed(0)
    split = split_network(capture(Shared().eval(), 16, 16), "auto")
    assert [norm.name for norm in list_norms(split.backbone)] == ["twice", "once", "twice", "middle"]
    placed = replace(split, norm_places=(0.0, 0.25, 0.5, 1.0))
    found = let_alternate_stay({"": placed})[""]
    assert [norm.name for norm in list_norms(found.backbone)] == ["twice", "twice", "middle"]
    assert found.norm_places == (0.0, 0.5, 1.0)
    assert let_alternate_stay({"": split})[""].norm_places is None
