from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from ocl_edge.errors import CheckpointError, UsageError
from ocl_edge.network.zoo import Spec, demo, parse_spec, recognise
from ocl_edge.network.zoo.deeplabv2 import DeepLabV2, DilatedClassifiers
from ocl_edge.network.zoo.espnetv2 import ESPNetv2, channel_plan
from ocl_edge_app.demo.world.measure import SHIPPED


@pytest.mark.parametrize(
    ("text", "factory", "arguments"),
    [
        ("espnetv2", "espnetv2", {}),
        ("espnetv2:scale=1.5,classes=11", "espnetv2", {"scale": 1.5, "classes": 11}),
        ("my/net.py:build", "my/net.py:build", {}),
        (
            "my/net.py:build:width=32,norm=batch,deep=True",
            "my/net.py:build",
            {"width": 32, "norm": "batch", "deep": True},
        ),
        (
            "my/net.py:build:size=(8, 16),names=['a', 'b']",
            "my/net.py:build",
            {"size": (8, 16), "names": ["a", "b"]},
        ),
        ("package.nets:build:width=3", "package.nets:build", {"width": 3}),
        ("torchvision:fcn_resnet50:num_classes=4", "torchvision:fcn_resnet50", {"num_classes": 4}),
        (
            "timm:resnet18:classes=5,head=my/net.py:head",
            "timm:resnet18",
            {"classes": 5, "head": "my/net.py:head"},
        ),
    ],
)
def test_specs_are_read_and_written_alike(text: str, factory: str, arguments: dict[str, object]) -> None:
    spec = parse_spec(text)
    assert (spec.factory, spec.arguments) == (factory, arguments)
    assert str(spec) == text


def test_deeplabv2_has_the_published_layout() -> None:
    """Counts of AdaptSegNet's ``ResNetMulti`` with 19 classes: 104 convolutions, 8 classifiers, 104 norms."""
    with torch.device("meta"):
        network = DeepLabV2()
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    kinds = [type(module).__name__ for module in network.modules()]
    assert (kinds.count("Conv2d"), kinds.count("BatchNorm2d")) == (104 + 8, 104)
    assert len(shapes) == 104 + 8 * 2 + 104 * 5
    assert shapes["layer5.conv2d_list.3.weight"] == (19, 1024, 3, 3)
    assert shapes["layer4.0.downsample.0.weight"] == (2048, 1024, 1, 1)
    assert recognise(shapes) == Spec("deeplabv2", {"classes": 19})
    blocks = network.get_submodule("layer2.0")
    assert (blocks.conv1.stride, blocks.conv2.stride) == ((2, 2), (1, 1))
    assert network.get_submodule("layer4.2").conv2.dilation == (4, 4)


def test_deeplabv2_adds_as_many_classifiers_as_its_weights_were_trained_with() -> None:
    head = DilatedClassifiers(3, 2, added=2)
    x = torch.randn(1, 3, 40, 40)
    both = head.conv2d_list[0](x) + head.conv2d_list[1](x)
    assert torch.allclose(head(x), both, atol=1e-6)
    with torch.device("meta"):
        logits = DeepLabV2(19)(torch.zeros(2, 3, 65, 97))
    assert logits.shape == (2, 19, 65, 97)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unet", "unknown architecture 'unet'; known: espnetv2, deeplabv2, demo, torchvision:NAME"),
        ("espnetv2:scale", "expected key=value, got 'scale'"),
    ],
)
def test_wrong_specs_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_spec(text)


def test_wrong_user_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("def build(): return 3\nvalue = 1\n")
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    for spec, message in (
        (f"{tmp_path}/none.py:build", "there is no file"),
        (f"{tmp_path}/net.py:missing", "has no function 'missing'"),
        (f"{tmp_path}/net.py:build", "returned a int"),
        (f"{tmp_path}/net.py:build:width=3", "unexpected keyword argument"),
        (f"{tmp_path}/broken.py:build", "cannot be imported: ModuleNotFoundError"),
    ):
        with pytest.raises(UsageError, match=message):
            parse_spec(spec).build()


def test_a_librarys_network_takes_its_arguments_after_a_comma() -> None:
    spec = parse_spec("smp:Unet,encoder_name=resnet18,classes=5")
    assert spec == Spec("smp:Unet", {"encoder_name": "resnet18", "classes": 5})


def test_code_that_fails_or_ends_the_program_names_the_users_line(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import sys\n\ndef fails(): return 1 / 0\n\ndef ends(): sys.exit(3)\n")
    (tmp_path / "script.py").write_text("import argparse\nargparse.ArgumentParser().parse_args(['--no'])\n")
    for spec, message in (
        ("net.py:fails", r"ZeroDivisionError: division by zero\n  in .*net\.py:3: def fails"),
        ("net.py:ends", r"SystemExit: 3\n  in .*net\.py:5"),
        ("script.py:build", r"script\.py cannot be imported: SystemExit: 2\n  in .*script\.py:2"),
    ):
        with pytest.raises(UsageError, match=message):
            parse_spec(f"{tmp_path}/{spec}").build()


@pytest.mark.parametrize("name", ["own_beside", "own_inside"])
def test_neighbours_and_relative_imports_are_found(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / "nets"
    folder.mkdir(parents=True)
    if name.endswith("inside"):
        (tmp_path / name / "__init__.py").write_text("")
        (folder / "__init__.py").write_text("")
    (folder / f"{name}_blocks.py").write_text(
        "import torch\nblock = lambda width: torch.nn.Conv2d(3, width, 1)\n"
    )
    dot = "." if name.endswith("inside") else ""
    (folder / "net.py").write_text(
        f"from {dot}{name}_blocks import block\n\ndef build(width=2): return block(width)\n"
    )
    before = list(sys.path)
    network = parse_spec(f"{folder}/net.py:build:width=7").build()
    assert isinstance(network, torch.nn.Conv2d)
    assert network.out_channels == 7
    assert sys.path == before


def test_a_module_is_named_as_python_imports_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_module.py").write_text("import torch\ndef build(): return torch.nn.Identity()\n")
    monkeypatch.chdir(tmp_path)
    assert isinstance(parse_spec("own_module:build").build(), torch.nn.Identity)
    with pytest.raises(UsageError, match="cannot be imported: ModuleNotFoundError"):
        parse_spec("no_such_module:build").build()


def test_a_library_that_is_missing_is_named() -> None:
    with pytest.raises(UsageError, match="torchvision is not installed: pip install torchvision"):
        parse_spec("torchvision:fcn_resnet50").build()


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.25, 1.5, 2.0])
def test_every_published_scale_is_recognised_from_its_shapes(scale: float) -> None:
    network = ESPNetv2(scale, 20)
    shapes = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    assert recognise(shapes) == Spec("espnetv2", {"scale": scale, "classes": 20})
    with torch.no_grad():
        assert network.eval()(torch.zeros(1, 3, 64, 96)).shape == (1, 20, 64, 96)


def test_channels_follow_the_width_multiplier() -> None:
    assert channel_plan(0.5) == (16, 32, 64, 128)
    assert channel_plan(1.0) == (32, 64, 128, 256)
    assert channel_plan(2.0) == (32, 128, 256, 512)


def test_a_size_that_does_not_fit_is_explained() -> None:
    with pytest.raises(ValueError, match="multiples of 16, got 100x128; the nearest that fits is 96x128"):
        ESPNetv2(0.5, 5)(torch.zeros(1, 3, 100, 128))


def test_foreign_tensors_are_not_recognised() -> None:
    with pytest.raises(CheckpointError, match="tried: espnetv2, deeplabv2, demo"):
        recognise({"layer.weight": (3, 3)})


@pytest.mark.footage
def test_the_published_checkpoint_loads_strictly(data: Path) -> None:
    path = data / "models" / "espnetv2_s_2.0_city_1024x512.pth"
    state = torch.load(path, map_location="cpu", weights_only=True)
    spec = recognise({name: tuple(t.shape) for name, t in state.items()})
    assert spec == Spec("espnetv2", {"scale": 2.0, "classes": 20})
    spec.build().load_state_dict(state, strict=True)
    assert sum(t.numel() for t in state.values()) == 814_351


def test_the_shipped_demo_network_is_recognised() -> None:
    shipped = SHIPPED
    state = torch.load(shipped, map_location="cpu", weights_only=True)["state_dict"]
    spec = recognise({name: tuple(t.shape) for name, t in state.items()})
    assert spec == Spec("demo", {"classes": 10, "width": 16})
    spec.build().load_state_dict(state, strict=True)
    assert recognise({name: tuple(t.shape) for name, t in demo.build(7, 8).state_dict().items()}) == Spec(
        "demo", {"classes": 7, "width": 8}
    )
