"""Launch the node of examples/ros2_node.py beside a camera's driver.

ros2 launch examples/ros2/ocl_edge.launch.py bundle:=/opt/ocl-edge/bundle image:=/camera/image_raw
"""

from pathlib import Path
from typing import Any

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.substitutions import LaunchConfiguration

HERE = Path(__file__).resolve().parent
PARAMETERS = HERE / "ocl_edge.yaml"
NODE = HERE.parent / "ros2_node.py"


def generate_launch_description() -> LaunchDescription:
    """What ``ros2 launch`` asks for."""
    arguments = {"bundle": "bundle", "image": "/camera/image_raw", "mask": "/ocl_edge/mask"}
    node: list[Any] = ["python3", str(NODE), "--ros-args", "--params-file", str(PARAMETERS)]
    node += ["-p", ["bundle:=", LaunchConfiguration("bundle")]]
    for topic in ("image", "mask"):
        node += ["-r", [f"{topic}:=", LaunchConfiguration(topic)]]
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(name, default_value=value) for name, value in arguments.items()),
            ExecuteProcess(cmd=node, output="screen", respawn=True, respawn_delay=2.0),
        ]
    )
