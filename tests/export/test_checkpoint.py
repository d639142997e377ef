from __future__ import annotations

import re
import sys
import time
import types
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ocl_edge.errors import CheckpointError
from ocl_edge.network.zoo import demo
from ocl_edge.network.zoo.espnetv2 import ESPNetv2
from ocl_edge_export.checkpoint import Checkpoint, Metadata, load_network, read_checkpoint
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
    network = load_network(read_checkpoint(tmp_path / "small.safetensors"), SMALL_ARCH).network
    assert torch.equal(network.state_dict()["classifier.weight"], state["classifier.weight"])


def test_a_pickled_module_needs_trust(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Conv2d(3, 2, 1)), tmp_path / "module.pth")
    with pytest.raises(CheckpointError, match="--trust-pickle"):
        read_checkpoint(tmp_path / "module.pth")
    network = load_network(read_checkpoint(tmp_path / "module.pth", trust_pickle=True), None).network
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
    of_the_zoo = demo.build(5, 4).state_dict()
    torch.save({"state_dict": of_the_zoo, "ocl_edge": {"arch": "demo:classes=5,width=4"}}, tmp_path / "n.pth")
    spec = load_network(read_checkpoint(tmp_path / "n.pth"), None).spec
    assert str(spec) == "demo:classes=5,width=4"
    spec = load_network(Checkpoint(ESPNetv2(1.0, 7).state_dict()), None).spec
    assert str(spec) == "espnetv2:scale=1.0,classes=7"
    with pytest.raises(CheckpointError, match="tried: espnetv2, deeplabv2, demo"):
        load_network(Checkpoint(state), None)
    torch.save({"state_dict": state, "ocl_edge": {"input_size": "large"}}, tmp_path / "wrong.pth")
    with pytest.raises(CheckpointError, match="input_size"):
        read_checkpoint(tmp_path / "wrong.pth")


@pytest.mark.parametrize("arguments", ["", ":classes=5", ":x=1"])
def test_metadata_never_names_code(tmp_path: Path, state: dict[str, torch.Tensor], arguments: str) -> None:
    (tmp_path / "stranger.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef build(**_): pass\n")
    for arch in (
        f"{tmp_path}/stranger.py:build{arguments}",
        f"demo:x={tmp_path}/stranger.py:build",
        "os:system",
    ):
        torch.save({"state_dict": state, "ocl_edge": {"arch": arch}}, tmp_path / "x.pth")
        with pytest.raises(CheckpointError, match=r"network of the zoo|cannot be built"):
            load_network(read_checkpoint(tmp_path / "x.pth"), None)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        "classes=0",
        "classes=10000000",
        "classes=-1",
        "classes=True",
        "classes=5.0",
        "classes=x",
        "width=9**9",
        "y=1",
    ],
)
def test_arguments_in_metadata_are_checked(state: dict[str, torch.Tensor], arguments: str) -> None:
    checkpoint = Checkpoint(state, Metadata(arch=f"demo:{arguments}"))
    with pytest.raises(CheckpointError, match=r"cannot be built: .*(must be|takes)"):
        load_network(checkpoint, None)


def test_shapes_that_claim_a_huge_network_allocate_nothing() -> None:
    claims = dict(demo.build(3, 2).state_dict())
    claims["classifier.weight"] = torch.zeros(1).expand(1 << 31, 1 << 20, 1, 1)
    with pytest.raises(CheckpointError, match="not recognised"):
        load_network(Checkpoint(claims), None)
    large = ESPNetv2(0.5, 5).state_dict()
    large["base_net.level3_0.act.weight"] = torch.zeros(1).expand(1 << 40)
    with pytest.raises(CheckpointError, match=r"scale of espnetv2 must be a number of 0\.1 to 8"):
        load_network(Checkpoint(large), None)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t: t.to(torch.complex64), "holds complex .* numbers, expected floating-point"),
        (lambda t: t.to(torch.int64), "holds integer .* numbers, expected floating-point"),
        (lambda t: t > 0, "holds integer .torch.bool. numbers"),
        (lambda t: t.to_sparse(), "is sparse"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "is quantised"),
        (lambda t: t.to("meta"), "is on the meta device"),
        (lambda t: t * float("nan"), "holds NaN"),
        (lambda t: t / 0, "holds (NaN|infinite numbers)"),
    ],
)
def test_tensors_that_are_no_weights_are_named(
    state: dict[str, torch.Tensor], change: Callable[[torch.Tensor], torch.Tensor], problem: str
) -> None:
    wrong = {**state, "classifier.weight": change(state["classifier.weight"])}
    with pytest.raises(CheckpointError, match=f"the tensor classifier.weight {problem}"):
        load_network(Checkpoint(wrong), SMALL_ARCH)


def test_a_negative_variance_is_named(state: dict[str, torch.Tensor]) -> None:
    wrong = {**state, "stem_norm.running_var": -state["stem_norm.running_var"]}
    with pytest.raises(CheckpointError, match=r"the tensor stem_norm\.running_var holds negative variances"):
        load_network(Checkpoint(wrong), SMALL_ARCH)


def test_half_precision_is_read(state: dict[str, torch.Tensor]) -> None:
    halves = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    network = load_network(Checkpoint(halves), SMALL_ARCH).network
    assert network.state_dict()["classifier.weight"].dtype == torch.float32


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input_size", (0, 96)),
        ("input_size", (-64, 96)),
        ("input_size", (64.5, 96)),
        ("input_size", (30000, 30000)),
        ("input_size", (10**30, 96)),
        ("std", (0.0, 1.0, 1.0)),
        ("std", (-1.0, 1.0, 1.0)),
        ("std", (float("inf"), 1.0, 1.0)),
        ("mean", (float("nan"), 0.0, 0.0)),
        ("mean", (1e39, 0.0, 0.0)),
        ("classes", ["a", "b", "a"]),
        ("classes", []),
        ("classes", ["x"] * 65536),
        ("classes", [1, 2]),
        ("palette", [(999, 0, 0)]),
        ("palette", [(-1, 0, 0)]),
        ("palette", [(0, 0)]),
        ("arch", 3),
        ("surprise", 1),
    ],
)
def test_metadata_that_makes_no_sense_is_refused_by_its_field(
    tmp_path: Path, state: dict[str, torch.Tensor], field: str, value: object
) -> None:
    torch.save({"state_dict": state, "ocl_edge": {field: value}}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=f"x.pth: metadata under 'ocl_edge': {field}"):
        read_checkpoint(tmp_path / "x.pth")


Kind = dict[str, object]


def kinds_of_files(state: dict[str, torch.Tensor]) -> dict[str, tuple[Kind, str]]:
    """What trainers write: (content, what the export says of it)."""
    wrong = {name: torch.zeros_like(t) for name, t in state.items()}

    def under(prefix: str, tensors: dict[str, torch.Tensor] = state) -> Kind:
        return {f"{prefix}{name}": t for name, t in tensors.items()}

    def part(prefix: str) -> Kind:
        return {n.replace("gate.", f"gate.{prefix}"): t for n, t in state.items()}

    return {
        "plain": (under(""), ""),
        "parallel": (under("module."), ""),
        "compiled, parallel": (under("_orig_mod.module."), ""),
        "parallel, compiled": (under("module._orig_mod."), ""),
        "a part compiled": (part("_orig_mod."), ""),
        "a part parallel": (part("module."), ""),
        "lightning": (
            {"state_dict": {**under("model."), "loss.weight": torch.ones(5)}},
            "'state_dict.model'",
        ),
        "mmengine": (
            {"meta": {"epoch": 3}, "state_dict": under("segmentor.net.")},
            "'state_dict.segmentor.net'",
        ),
        "generator": (
            {"generator": under("module."), "discriminator": {"a.weight": torch.ones(2)}},
            "'generator'",
        ),
        "average": ({"model": under("", wrong), "ema": under("")}, "'ema', not from 'model'"),
        "average of timm": (
            {"state_dict": under("", wrong), "state_dict_ema": under("")},
            "'state_dict_ema'",
        ),
        "nested average": (
            {"net": under("module.", wrong), "model_ema": {"module": under("")}},
            "'model_ema'",
        ),
        "swa": ({**under("module."), "n_averaged": torch.tensor(7)}, "n_averaged"),
        "optimiser beside": (
            {"model": under(""), "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
            "'model'",
        ),
        "training head": ({**under(""), "auxlayer.conv.weight": torch.ones(3)}, "left out.*auxlayer"),
        "no counters": ({n: t for n, t in state.items() if "num_batches" not in n}, ""),
        "numpy and settings": (
            {
                "state_dict": under(""),
                "loss": np.float64(0.5),
                "curve": np.arange(3),
                "args": Namespace(lr=1),
            },
            "'state_dict'",
        ),
    }


@pytest.mark.parametrize("kind", kinds_of_files({}))
def test_what_trainers_write_is_loaded_and_said(
    tmp_path: Path, state: dict[str, torch.Tensor], kind: str
) -> None:
    content, said = kinds_of_files(state)[kind]
    torch.save(content, tmp_path / "x.pth")
    loaded = load_network(read_checkpoint(tmp_path / "x.pth"), SMALL_ARCH)
    for name, tensor in loaded.network.state_dict().items():
        assert torch.equal(tensor, state[name]) or "num_batches" in name, name
    assert re.search(said, "\n".join(loaded.notes))
    assert bool(loaded.notes) == bool(said)


def test_parts_in_dictionaries_of_their_own_are_put_together(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in state.items():
        top, _, rest = name.partition(".")
        parts.setdefault(top, {})[rest] = tensor
    torch.save(parts, tmp_path / "x.pth")
    network = load_network(read_checkpoint(tmp_path / "x.pth"), SMALL_ARCH).network
    assert torch.equal(network.state_dict()["gate.1.weight"], state["gate.1.weight"])


def test_a_weights_key_chooses(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    ones = {name: torch.ones_like(t) for name, t in state.items()}
    torch.save({"model": {"module": ones}, "ema": state}, tmp_path / "x.pth")
    for key in ("model", "model.module"):
        checkpoint = read_checkpoint(tmp_path / "x.pth", weights_key=key)
        assert bool(load_network(checkpoint, SMALL_ARCH).network.state_dict()["stem.weight"].eq(1).all())
    with pytest.raises(
        CheckpointError, match=r"teacher: there are no tensors under it.* model, ema|ema, model"
    ):
        load_network(read_checkpoint(tmp_path / "x.pth", weights_key="teacher"), SMALL_ARCH)


def test_a_hundred_thousand_names_take_seconds(state: dict[str, torch.Tensor]) -> None:
    many = {f"other.{i}.stem.weight": torch.zeros(1) for i in range(100_000)}
    started = time.monotonic()
    load_network(Checkpoint({**state, **many}), SMALL_ARCH)
    assert time.monotonic() - started < 20


FOREIGN: dict[str, tuple[bytes, str]] = {
    "pointer.pth": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
    "page.pth": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", r"web page \(HTML\)"),
    "net.onnx": (b"\x08\x07", "is no ONNX file, or empty"),
    "renamed.pth": (b"\x08\x08\x12\x07pytorch\x1a\x052.0.0", "is no ONNX file, or empty"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_that_are_no_checkpoints_are_named(tmp_path: Path, name: str) -> None:
    content, message = FOREIGN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / name)


def test_programs_are_named(tmp_path: Path) -> None:
    network = nn.Conv2d(3, 2, 1)
    torch.jit.trace(network, torch.zeros(1, 3, 4, 4)).save(str(tmp_path / "script.pth"))
    with pytest.raises(CheckpointError, match=r"is a TorchScript program.*state_dict.*--trust-pickle"):
        read_checkpoint(tmp_path / "script.pth")
    torch.export.save(torch.export.export(network, (torch.zeros(1, 3, 4, 4),)), tmp_path / "net.pt2")
    with pytest.raises(CheckpointError, match=r"is a torch\.export program"):
        read_checkpoint(tmp_path / "net.pt2")


def test_what_needs_trust_is_named(
    tmp_path: Path, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("trainerlib")
    module.History = type("History", (), {"__module__": "trainerlib"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trainerlib", module)
    torch.save({"state_dict": state, "hub": module.History()}, tmp_path / "x.pth")
    monkeypatch.delitem(sys.modules, "trainerlib")
    with pytest.raises(CheckpointError, match=r"pickled Python objects: trainerlib\.History.*--trust-pickle"):
        read_checkpoint(tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="module 'trainerlib', which is not installed here"):
        read_checkpoint(tmp_path / "x.pth", trust_pickle=True)


def test_missing_training_heads_are_kept_and_surplus_layers_are_not(state: dict[str, torch.Tensor]) -> None:
    loaded = load_network(Checkpoint(state), f"{__file__}:with_aux")
    assert loaded.unloaded == {"aux_head.weight", "aux_head.bias"}
    assert loaded.notes == ("not in the checkpoint, kept as they were made: aux_head",)
    with pytest.raises(CheckpointError, match=r"1 tensors are unexpected: gate\.7\.weight"):
        load_network(Checkpoint({**state, "gate.7.weight": torch.ones(1)}), SMALL_ARCH)


def with_aux() -> nn.Module:
    network = small_network.SmallNetwork()
    network.aux_head = nn.Conv2d(6, 5, 1)
    return network


def test_an_archive_that_was_packed_again_is_loaded_and_a_bomb_is_not(tmp_path: Path) -> None:
    """PyTorch stores records as they are; one that is deflated may grow a thousandfold."""
    state = small_network.trained().state_dict()
    torch.save(state, tmp_path / "stored.pth")
    repacked(tmp_path / "stored.pth", tmp_path / "packed.pth", {})
    assert read_checkpoint(tmp_path / "packed.pth").tensors.keys() == state.keys()
    repacked(tmp_path / "stored.pth", tmp_path / "bomb.pth", {"data/0": b"\0" * (200 << 20)})
    with pytest.raises(CheckpointError, match=r"claims 209,\d{3},\d{3} bytes in .*more than 10-fold"):
        read_checkpoint(tmp_path / "bomb.pth")


def repacked(source: Path, target: Path, instead: dict[str, bytes]) -> None:
    with zipfile.ZipFile(source) as stored, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in stored.namelist():
            content = instead.get(name.partition("/")[2], stored.read(name))
            packed.writestr(name, content, compresslevel=9)


def test_mappings_that_hold_one_another_many_times_over_end_in_a_word(tmp_path: Path) -> None:
    nest: dict[str, object] = {"weight": torch.zeros(1)}
    for _ in range(5):
        nest = {str(index): nest for index in range(100)}
    torch.save(nest, tmp_path / "laughs.pth")
    with pytest.raises(CheckpointError, match=r"nests more than 200,000 entries"):
        read_checkpoint(tmp_path / "laughs.pth")


def test_an_archive_of_very_many_records_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "many.pth", "w") as archive:
        archive.writestr("many/data.pkl", b"")
        archive.writestr("many/version", b"3")
        for index in range(50_001):
            archive.writestr(f"many/data/{index}", b"")
    with pytest.raises(CheckpointError, match=r"holds 50,0\d\d records, expected at most 50,000"):
        read_checkpoint(tmp_path / "many.pth")


def test_numbers_that_the_network_s_type_cannot_hold_are_refused(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    name = next(iter(state))
    torch.save({**state, name: state[name].double() * 1e200}, tmp_path / "large.pth")
    with pytest.raises(CheckpointError, match=rf"{name} holds infinite numbers, or such as torch.float32"):
        load_network(read_checkpoint(tmp_path / "large.pth"), SMALL_ARCH)


def test_a_nested_tensor_is_refused_by_name(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
    torch.save({"state_dict": {**state, "more": nested}}, tmp_path / "nested.pth")
    with pytest.raises(CheckpointError, match=r"the tensor state_dict.more is nested"):
        read_checkpoint(tmp_path / "nested.pth")
