from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ocl_edge.errors import CheckpointError
from ocl_edge.network.zoo.espnetv2 import ESPNetv2
from ocl_edge_export.checkpoint import Checkpoint, load_network, read_checkpoint
from tests.doubles import small_network
from tests.doubles.bundles import SMALL_ARCH


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return small_network.trained().state_dict()


def test_a_truncated_file_is_refused(tmp_path: Path, small_checkpoint: Path) -> None:
    content = small_checkpoint.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.pth").write_bytes(content[:length])
        with pytest.raises(
            CheckpointError, match=r"truncated, damaged or not a checkpoint|not a PyTorch checkpoint"
        ):
            read_checkpoint(tmp_path / "cut.pth")


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no checkpoint")
    with pytest.raises(CheckpointError):
        read_checkpoint(tmp_path / "text.pth")
    torch.save({"epoch": 3, "note": "nothing else"}, tmp_path / "empty.pth")
    with pytest.raises(CheckpointError, match="holds no tensors \\(found: epoch, note\\)"):
        read_checkpoint(tmp_path / "empty.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds a list"):
        read_checkpoint(tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "none.pth")


@pytest.mark.parametrize("wrap", ["state_dict", "model_state_dict", "model", "net"])
def test_nested_and_prefixed_state_dicts_are_found(
    tmp_path: Path, state: dict[str, torch.Tensor], wrap: str
) -> None:
    torch.save(
        {"epoch": 3, wrap: {f"module.{name}": t for name, t in state.items()}}, tmp_path / "nested.pth"
    )
    assert read_checkpoint(tmp_path / "nested.pth").tensors.keys() == state.keys()


def test_safetensors_are_read(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    save_file(state, tmp_path / "small.safetensors")
    network, _ = load_network(read_checkpoint(tmp_path / "small.safetensors"), SMALL_ARCH)
    assert torch.equal(network.state_dict()["classifier.weight"], state["classifier.weight"])


def test_a_pickled_module_needs_trust(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Conv2d(3, 2, 1)), tmp_path / "module.pth")
    with pytest.raises(CheckpointError, match="--trust-pickle"):
        read_checkpoint(tmp_path / "module.pth")
    network, _ = load_network(read_checkpoint(tmp_path / "module.pth", trust_pickle=True), None)
    assert isinstance(network, nn.Sequential)
    assert not network.training


def test_missing_unexpected_and_reshaped_tensors_are_named(state: dict[str, torch.Tensor]) -> None:
    extra = {f"extra.{index}": torch.zeros(1) for index in range(12)}
    wrong = {**state, "stem.weight": torch.zeros(8, 3, 5, 5), **extra}
    del wrong["classifier.bias"]
    with pytest.raises(CheckpointError) as caught:
        load_network(Checkpoint(wrong), SMALL_ARCH)
    message = str(caught.value)
    assert "1 tensors are missing: classifier.bias" in message
    assert "12 tensors are unexpected: extra.0, extra.1" in message
    assert "extra.9, and 2 more" in message
    assert "extra.10" not in message
    assert "stem.weight [8, 3, 5, 5] instead of [8, 3, 3, 3]" in message


def test_a_wrong_class_count_says_which_would_fit() -> None:
    checkpoint = Checkpoint(ESPNetv2(0.5, 11).state_dict())
    with pytest.raises(CheckpointError, match=r"fit --arch espnetv2:scale=0\.5,classes=11"):
        load_network(checkpoint, "espnetv2:scale=0.5,classes=20")


def test_the_architecture_comes_from_metadata_or_is_recognised(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    torch.save({"state_dict": state, "ocl_edge": {"arch": SMALL_ARCH}}, tmp_path / "named.pth")
    _, spec = load_network(read_checkpoint(tmp_path / "named.pth"), None)
    assert str(spec) == SMALL_ARCH
    _, spec = load_network(Checkpoint(ESPNetv2(1.0, 7).state_dict()), None)
    assert str(spec) == "espnetv2:scale=1.0,classes=7"
    with pytest.raises(CheckpointError, match="tried: espnetv2, demo"):
        load_network(Checkpoint(state), None)
    torch.save({"state_dict": state, "ocl_edge": {"input_size": "large"}}, tmp_path / "wrong.pth")
    with pytest.raises(CheckpointError, match="input_size"):
        read_checkpoint(tmp_path / "wrong.pth")
