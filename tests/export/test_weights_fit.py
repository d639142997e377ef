"""Tensors that PyTorch itself would load into a network: tied, lazily shaped, of older names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_model
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from ocl_edge.errors import CheckpointError, UsageError
from ocl_edge.network.zoo import Spec
from ocl_edge_export.checkpoint_files import load_content
from ocl_edge_export.weights_fit import fit_weights

SPEC = Spec("net.py:build", {})
IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def tied() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
    network[2].weight = network[1].weight
    return network


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.LazyConv2d(5, 1))


def weight_normed() -> nn.Module:
    return nn.Sequential(parametrizations.weight_norm(nn.Conv2d(3, 4, 1)))


def older_weight_normed() -> nn.Module:
    return nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 4, 1)))


def without_twin(network: nn.Module) -> Mapping[str, Tensor]:
    return {name: tensor for name, tensor in network.state_dict().items() if name != "1.weight"}


def whole(network: nn.Module) -> Mapping[str, Tensor]:
    return network.state_dict()


@pytest.mark.parametrize(
    ("trained", "built", "kept"),
    [
        (tied, tied, without_twin),
        (lazy, lazy, whole),
        (older_weight_normed, weight_normed, whole),
    ],
)
def test_what_pytorch_loads_is_loaded(
    trained: Callable[[], nn.Module],
    built: Callable[[], nn.Module],
    kept: Callable[[nn.Module], Mapping[str, Tensor]],
) -> None:
    one, other = trained(), built()
    expected = one(IMAGE) if trained is not lazy else None
    if expected is None:
        one(IMAGE)
        expected = one.eval()(IMAGE)
    other.load_state_dict(fit_weights(other, kept(one), SPEC).tensors, strict=True)
    assert torch.equal(other.eval()(IMAGE), expected)


def test_a_shared_tensor_of_safetensors_goes_to_both_names(tmp_path: Path) -> None:
    network, other = tied(), tied()
    save_model(network, str(tmp_path / "net.safetensors"))
    found = load_content(tmp_path / "net.safetensors", trust_pickle=False)
    assert len(found) == len(network.state_dict()) - 1
    other.load_state_dict(fit_weights(other, found, SPEC).tensors, strict=True)
    assert torch.equal(other(IMAGE), network(IMAGE))


def test_equal_but_separate_tensors_are_not_taken_for_one_another() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    half = {name: tensor for name, tensor in network.state_dict().items() if name.startswith("0.")}
    with pytest.raises(CheckpointError, match=r"4 tensors are missing: 1\.weight"):
        fit_weights(network, half, SPEC)


def test_lazy_layers_that_the_checkpoint_does_not_have_are_missing() -> None:
    with pytest.raises(CheckpointError, match=r"tensors are missing: 0\.weight"):
        fit_weights(lazy(), {"3.bias": torch.zeros(5)}, SPEC)


def test_a_network_on_the_device_meta_is_refused_by_name() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1, device="meta"))
    with pytest.raises(UsageError, match=r"makes 0\.weight on the device meta"):
        fit_weights(network, nn.Sequential(nn.Conv2d(3, 4, 1)).state_dict(), SPEC)


def test_a_module_that_fails_on_its_tensors_is_named() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1))

    def of_another_version(*_: object) -> None:
        raise KeyError("relative_position")

    network[0].register_load_state_dict_pre_hook(of_another_version)
    with pytest.raises(CheckpointError, match=r"0 of net\.py:build cannot take .*KeyError: 'relative_pos"):
        fit_weights(network, network.state_dict(), SPEC)


def test_complex_weights_are_refused_with_advice() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1))
    network.register_parameter("filter", nn.Parameter(torch.zeros(3, dtype=torch.complex64)))
    with pytest.raises(CheckpointError, match=r"the tensor filter holds complex .* which no bundle can hold"):
        fit_weights(network, network.state_dict(), SPEC)
