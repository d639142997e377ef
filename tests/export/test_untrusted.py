"""Files that run code: with trust, in a process of its own; of a pickle the weights come back and no code."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ocl_edge.errors import CheckpointError, UsageError
from ocl_edge_export.checkpoint import load_network, read_checkpoint
from tests.doubles.small_network import SmallNetwork

SIZE = (32, 48)


class Marks:
    """What a pickle may do when it is loaded: here, write the number of its process into a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        command = f"import os; open({self.path!r}, 'w', encoding='utf-8').write(str(os.getpid()))"
        return exec, (command,)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return SmallNetwork().eval()


def same(network: nn.Module, other: nn.Module) -> bool:
    images = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        ours, theirs = network(images), other(images)
    return isinstance(ours, Tensor) and torch.allclose(ours, theirs, atol=1e-4)


def test_a_torchscript_program_keeps_its_norms(tmp_path: Path, network: nn.Module) -> None:
    path = tmp_path / "net.pt"
    torch.jit.trace(network, torch.zeros(1, 3, *SIZE)).save(str(path))
    with pytest.raises(UsageError, match="does not say its size: --input-size"):
        read_checkpoint(path, trust_pickle=True)
    read = read_checkpoint(path, trust_pickle=True, size=SIZE)
    assert "a TorchScript program, read by way of ONNX" in read.notes
    loaded = load_network(read, None).network
    assert same(loaded, network)
    norms = [name for name, _ in loaded.named_buffers() if name.endswith("running_mean")]
    assert len(norms) == sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) > 0


def test_an_exported_program_says_its_size(tmp_path: Path, network: nn.Module) -> None:
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(network, (torch.zeros(1, 3, *SIZE),)), path)
    read = read_checkpoint(path, trust_pickle=True)
    assert read.metadata.input_size == SIZE
    assert same(load_network(read, None).network, network)
    with pytest.raises(CheckpointError, match=r"its images are 32x48; .*--input-size"):
        read_checkpoint(path, trust_pickle=True, size=(64, 96))


def test_of_a_pickle_with_an_architecture_the_weights_come_back_alone(
    tmp_path: Path, network: nn.Module
) -> None:
    mark = tmp_path / "mark"
    torch.save({"model": network.state_dict(), "callback": Marks(mark)}, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match="--trust-pickle"):
        read_checkpoint(tmp_path / "net.pt", weights_alone=True)
    assert not mark.exists()
    read = read_checkpoint(tmp_path / "net.pt", trust_pickle=True, weights_alone=True)
    assert int(mark.read_text(encoding="utf-8")) != os.getpid()
    loaded = load_network(read, "tests/doubles/small_network.py:SmallNetwork")
    assert same(loaded.network, network)


def test_what_cannot_be_loaded_there_is_said(tmp_path: Path) -> None:
    class Ends:
        def __reduce__(self) -> tuple[object, ...]:
            return exec, ("import os; os._exit(3)",)

    torch.save({"weights": torch.zeros(1), "x": Ends()}, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=r"loading it ended the process \(exit status 3\)"):
        read_checkpoint(tmp_path / "net.pt", trust_pickle=True, weights_alone=True)
