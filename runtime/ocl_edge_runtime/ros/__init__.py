"""ROS 2's image messages: their bytes, their pixels, and the topics that carry them. No ROS is needed."""
