"""What every backend must do; each backend's test module subclasses `BackendContract`.

Those that run head graphs subclass `HeadBackendContract`.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ocl_edge.bundle.reading import Bundle, load_head_weights, load_norms
from ocl_edge.errors import BackendError
from ocl_edge.method.mixing import Mixing
from ocl_edge.network.form_names import FORMS, FormName, GraphName
from ocl_edge_runtime.backends.base import Backend, HeadBackend, shape_of
from ocl_edge_runtime.backends.torch_backend import TorchBackend


def inputs_of(
    bundle: Bundle, form: FormName, batch: int, seed: int = 0, prior: float = 0.85
) -> dict[str, Tensor]:
    frame = bundle.manifest.input
    source = load_norms(bundle)
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(batch, 3, frame.height, frame.width, generator=generator)
    extra: dict[str, dict[str, Tensor]] = {
        "plain": {},
        "modulated": {"norm_vectors": source.vectors(source.statistics) * 1.1},
        "measured": {
            "anchor_statistics": source.statistics,
            "anchor_weight": Mixing(torch.full((2, source.mean.numel()), prior), between=True).at(1.0),
        },
    }
    return {"image": image, **extra[form]}


class BackendContract:
    @pytest.fixture
    def backend(self, bundle: Bundle) -> Backend:
        raise NotImplementedError

    @pytest.fixture(params=["small_bundle", "sampled_bundle"])
    def bundle(self, request: pytest.FixtureRequest) -> Bundle:
        opened: Bundle = request.getfixturevalue(request.param)
        return opened

    def test_it_is_a_backend_with_every_form(self, backend: Backend, bundle: Bundle) -> None:
        assert isinstance(backend, Backend)
        assert {form: backend.describe()[form] for form in FORMS} == bundle.manifest.forms

    @pytest.mark.parametrize("form", FORMS)
    def test_it_computes_what_pytorch_computes(
        self, backend: Backend, bundle: Bundle, form: FormName
    ) -> None:
        for batch in (1, 2, 1):
            inputs = inputs_of(bundle, form, batch, seed=batch)
            expected = TorchBackend(bundle).infer(form, inputs)
            outputs = backend.infer(form, inputs)
            assert outputs.keys() == expected.keys()
            for name, value in outputs.items():
                assert value.dtype is torch.float32
                assert torch.allclose(value, expected[name], atol=2e-5), name

    def test_inputs_are_only_read(self, backend: Backend, bundle: Bundle) -> None:
        inputs = inputs_of(bundle, "measured", 2)
        before = {name: tensor.clone() for name, tensor in inputs.items()}
        backend.infer("measured", inputs)
        assert all(torch.equal(inputs[name], before[name]) for name in inputs)

    def test_outputs_hold_until_the_next_infer_of_the_same_form(
        self, backend: Backend, bundle: Bundle
    ) -> None:
        held = backend.infer("plain", inputs_of(bundle, "plain", 1, seed=1))
        copies = {name: tensor.clone() for name, tensor in held.items()}
        backend.infer("measured", inputs_of(bundle, "measured", 1, seed=2))
        assert all(torch.equal(held[name], copies[name]) for name in held)

    def test_the_same_input_gives_the_same_output(self, backend: Backend, bundle: Bundle) -> None:
        first = {k: v.clone() for k, v in backend.infer("measured", inputs_of(bundle, "measured", 2)).items()}
        backend.infer("measured", inputs_of(bundle, "measured", 2, seed=5))
        second = backend.infer("measured", inputs_of(bundle, "measured", 2))
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_wrong_tensors_are_named(self, backend: Backend, bundle: Bundle) -> None:
        good = inputs_of(bundle, "measured", 1)
        channels = bundle.manifest.norm_channels
        for changed, message in (
            (
                {"image": torch.zeros(1, 3, 8, 8)},
                r"image must be float32 \[-1, 3, 48, 64\].*got float32 \[1, 3, 8, 8\]",
            ),
            ({"image": good["image"].double()}, "got float64"),
            ({"image": good["image"].transpose(2, 3).contiguous().transpose(2, 3)}, "contiguous"),
            ({"anchor_statistics": torch.zeros(2, channels + 1)}, "anchor_statistics must be"),
        ):
            with pytest.raises(BackendError, match=message):
                backend.infer("measured", {**good, **changed})
        with pytest.raises(
            BackendError, match=r"measured takes \['anchor_statistics', 'anchor_weight', 'image'\]"
        ):
            backend.infer("measured", {"image": good["image"]})

    def test_it_can_be_closed_twice(self, backend: Backend) -> None:
        backend.close()
        backend.close()


def head_inputs(bundle: Bundle, height: int, width: int, seed: int = 0) -> dict[str, Tensor]:
    """Features of a view pair and the weights."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, bundle.manifest.features[0][0], height, width, generator=generator)
    names = bundle.require_head_graphs().parameters
    source = load_head_weights(bundle)
    return {"features": features, **{short: source[full] for short, full in names.items()}}


def step_inputs(bundle: Bundle, height: int, width: int, seed: int = 0) -> dict[str, Tensor]:
    inputs = head_inputs(bundle, height, width, seed)
    weights = {name: tensor for name, tensor in inputs.items() if name != "features"}
    for name, weight in weights.items():
        inputs |= {f"{name}_momentum": 0.1 * weight, f"{name}_source": weight}
        inputs[f"{name}_restored"] = (torch.arange(weight.numel()) % 3 == 0).float().view(weight.shape)
    return inputs | {n: torch.tensor([v]) for n, v in (("lr", 0.2), ("momentum", 0.9), ("weight_decay", 0.1))}


def places_for(backend: Backend, graph: GraphName, height: int, width: int) -> dict[str, Tensor]:
    outputs = backend.describe()[graph].outputs
    return {spec.name: torch.full(shape_of(spec, (2, 0, height, width)), torch.nan) for spec in outputs}


class HeadBackendContract(BackendContract):
    def test_it_runs_the_head_in_any_size(self, backend: HeadBackend, bundle: Bundle) -> None:
        assert isinstance(backend, HeadBackend)
        for height, width in ((24, 32), (6, 8), (24, 32)):
            inputs = head_inputs(bundle, height, width, seed=height)
            places = places_for(backend, "head", height, width)
            backend.infer_into("head", inputs, places)
            expected = torch.conv2d(inputs["features"], inputs["weight"], inputs["bias"])
            assert torch.allclose(places["logits"], expected, atol=1e-4)

    def test_a_step_is_written_where_the_caller_wants_it(self, backend: HeadBackend, bundle: Bundle) -> None:
        inputs = step_inputs(bundle, 6, 8)
        before = {name: tensor.clone() for name, tensor in inputs.items()}
        first, second = (places_for(backend, "head_step", 6, 8) for _ in range(2))
        backend.infer_into("head_step", inputs, first)
        kept = {name: tensor.clone() for name, tensor in first.items()}
        backend.infer_into("head_step", {**inputs, "lr": torch.tensor([0.0])}, second)
        assert all(torch.equal(inputs[name], before[name]) for name in inputs)
        assert all(torch.equal(first[name], kept[name]) for name in first)
        assert torch.equal(first["loss"], second["loss"])
        assert torch.equal(second["new_weight"], inputs["weight"])
        restored = inputs["weight_restored"].bool()
        moved = first["new_weight"] - inputs["weight"]
        assert not moved[restored].any()
        assert torch.allclose(moved[~restored], -0.2 * first["new_weight_momentum"][~restored], atol=1e-5)
        assert moved[~restored].all()

    def test_steps_that_are_chained_in_two_sets_equal_steps_in_new_places(
        self, backend: HeadBackend, bundle: Bundle
    ) -> None:
        chained, fresh = step_inputs(bundle, 6, 8), step_inputs(bundle, 6, 8)
        sets = [places_for(backend, "head_step", 6, 8) for _ in range(2)]
        for step in range(5):
            features = head_inputs(bundle, 6, 8, seed=step)["features"]
            places = places_for(backend, "head_step", 6, 8)
            for inputs, outputs in ((chained, sets[step % 2]), (fresh, places)):
                inputs["features"] = features
                backend.infer_into("head_step", inputs, outputs)
                inputs |= {n.removeprefix("new_"): t for n, t in outputs.items() if n != "loss"}
            assert all(torch.equal(chained[name], fresh[name]) for name in chained)

    def test_wrong_places_are_named(self, backend: HeadBackend, bundle: Bundle) -> None:
        inputs, places = head_inputs(bundle, 6, 8), places_for(backend, "head", 6, 8)
        with pytest.raises(BackendError, match=r"head gives \['logits'\], got places for \[\]"):
            backend.infer_into("head", inputs, {})
        for wrong, message in (
            (places["logits"].double(), "got float64"),
            (places["logits"][:1].contiguous(), r"must be float32 \[2, 5, 6, 8\], got float32 \[1"),
            (places["logits"].transpose(2, 3).contiguous().transpose(2, 3), "place for logits .*contiguous"),
        ):
            with pytest.raises(BackendError, match=message):
                backend.infer_into("head", inputs, {"logits": wrong})
