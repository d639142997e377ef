"""A ROS 2 node: sensor_msgs/Image in, class mask out, adaptation in between frames.

    python examples/ros2_node.py --ros-args -p bundle:=BUNDLE -p fps:=10.0

The project's tests run it against a stand-in for rclpy, since ROS 2 is not on PyPI.
"""

import array
import sys

import ocl_edge
from ocl_edge_runtime.ros.pixels import pixels_of

try:
    import rclpy
    from rclpy.node import Node
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image
except ImportError:
    sys.exit("this example needs ROS 2: source its setup file first (rclpy, sensor_msgs)")


class Segmenter(Node):  # type: ignore[misc]
    """Keeps only the newest of the images that come while a frame is busy."""

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
        try:
            mask = self.session.predict(pixels_of(message))
        except ocl_edge.OclEdgeError as error:  # one bad message never ends the node
            self.get_logger().error(f"image left out: {error}")
            return
        encoding = f"mono{8 * mask.itemsize}"  # 16 bits from 256 classes on
        out = Image(height=mask.shape[0], width=mask.shape[1], encoding=encoding, step=mask.strides[0])
        # an array is taken over as it is; bytes would be checked one by one, 0.2 s at 1080p
        out.header, out.data = message.header, array.array("B", mask.tobytes())
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
