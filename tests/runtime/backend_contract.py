"""What every backend must do; each backend's test module subclasses `BackendContract`."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ocl_edge.bundle import Bundle
from ocl_edge.errors import BackendError
from ocl_edge.forms import FORMS, FormName
from ocl_edge.norms import SourceNorms
from ocl_edge_runtime.backends.base import Backend
from ocl_edge_runtime.backends.torch_backend import TorchBackend


def inputs_of(
    bundle: Bundle, form: FormName, batch: int, seed: int = 0, prior: float = 0.85
) -> dict[str, Tensor]:
    frame = bundle.manifest.input
    source = SourceNorms(**load_file(bundle.file("norms.safetensors")))
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(batch, 3, frame.height, frame.width, generator=generator)
    extra: dict[str, dict[str, Tensor]] = {
        "plain": {},
        "modulated": {"norm_vectors": source.vectors(source.statistics) * 1.1},
        "measured": {"anchor_statistics": source.statistics, "anchor_weight": torch.tensor([prior])},
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
        assert dict(backend.describe()) == bundle.manifest.forms

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
