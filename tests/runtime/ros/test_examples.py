"""The files beside examples/ros2_node.py: what they name exists."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ocl_edge_app.cli import run
from ocl_edge_runtime.ros.messages import IMAGE
from ocl_edge_runtime.ros.topics import join_graph

EXAMPLES = Path(__file__).parents[3] / "examples"
NODE = EXAMPLES / "ros2_node.py"


def module(name: str, **content: Any) -> ModuleType:
    made = ModuleType(name)
    made.__dict__.update(content)
    return made


def test_the_launch_file_starts_the_node_with_its_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins = [
        module("launch", LaunchDescription=list),
        module(
            "launch.actions",
            DeclareLaunchArgument=lambda name, default_value: SimpleNamespace(name=name, value=default_value),
            ExecuteProcess=SimpleNamespace,
        ),
        module("launch.substitutions", LaunchConfiguration=lambda name: f"${name}"),
    ]
    for stand_in in stand_ins:
        monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    *arguments, process = runpy.run_path(str(EXAMPLES / "ros2" / "ocl_edge.launch.py"))[
        "generate_launch_description"
    ]()
    command = ["".join(word) for word in process.cmd]
    assert {argument.name for argument in arguments} == {"bundle", "image", "mask"}
    assert command[:3] == ["python3", str(NODE), "--ros-args"]
    assert Path(command[command.index("--params-file") + 1]).is_file()
    assert command[command.index("-p") + 1] == "bundle:=$bundle"
    source = NODE.read_text("utf-8")
    for remapped in ("image:=$image", "mask:=$mask"):
        assert remapped in command
        assert f'Image, "{remapped.partition(":")[0]}"' in source


def test_the_parameters_are_those_that_the_node_declares() -> None:
    lines = (EXAMPLES / "ros2" / "ocl_edge.yaml").read_text("utf-8").splitlines()
    named = [m[1] for line in lines if (m := re.fullmatch(r"    (\w+): .+", line))]
    source = NODE.read_text("utf-8")
    assert named == ["fps"]
    assert all(f'declare_parameter("{name}"' in source for name in named)
    assert 'super().__init__("ocl_edge")' in source
    assert "ocl_edge:" in lines


def test_cyclone_takes_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYCLONEDDS_URI", f"file://{EXAMPLES / 'ros2' / 'cyclonedds-loopback.xml'}")
    monkeypatch.setenv("ROS_DOMAIN_ID", "201")
    node = join_graph()
    publisher, heard = node.advertise("/camera", IMAGE), node.subscribe("/camera", IMAGE)
    assert publisher.listeners() == 1
    assert node.types_of("/camera") == {IMAGE}
    del publisher, heard
    node.close()


def test_the_options_in_the_file_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "--config", str(EXAMPLES / "ros2" / "drive.toml"), "--print-config"]) == 0
    assert 'source = ["ros2:/camera/image_raw"]' in capsys.readouterr().out
