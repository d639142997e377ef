"""A ROS 2 node: sensor_msgs/Image in, class mask out, adaptation in between frames.

    python examples/ros2_node.py --ros-args -p bundle:=BUNDLE -p fps:=10.0

The project's tests run it against a stand-in for rclpy, since ROS 2 is not on PyPI.
"""

import sys

import numpy as np

import ocl_edge

try:
    import rclpy
    from rclpy.node import Node
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image
except ImportError:
    sys.exit("this example needs ROS 2: source its setup file first (rclpy, sensor_msgs)")


class Segmenter(Node):  # type: ignore[misc]
    """Of the images that come while a frame is busy only the newest is kept."""

    def __init__(self) -> None:
        super().__init__("ocl_edge")
        bundle = self.declare_parameter("bundle", "bundle").value
        fps = self.declare_parameter("fps", 10.0).value
        self.session = ocl_edge.open(bundle, period_s=1 / fps)
        self.session.warm_up()
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)  # the sensor profile queues 5
        self.masks = self.create_publisher(Image, "mask", newest)
        self.create_subscription(Image, "image", self.on_image, newest)

    def on_image(self, message: Image) -> None:
        if message.encoding not in ("rgb8", "bgr8"):
            self.get_logger().error(f"expected rgb8 or bgr8, got {message.encoding}")
            return
        rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
        pixels = rows[:, : 3 * message.width].reshape(message.height, message.width, 3)
        mask = self.session.predict(pixels if message.encoding == "rgb8" else pixels[:, :, ::-1])
        out = Image(height=mask.shape[0], width=mask.shape[1], encoding="mono8", step=mask.shape[1])
        out.header, out.data = message.header, mask.tobytes()
        self.masks.publish(out)
        self.session.adapt()


def main() -> None:
    rclpy.init()
    try:
        rclpy.spin(Segmenter())
    finally:
        rclpy.shutdown()


if __name__ == "__main__":
    main()
