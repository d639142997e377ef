"""Segment a directory of images and adapt, in a loop of your own.

python examples/minimal_loop.py BUNDLE FRAMES
"""

import sys

import ocl_edge
from ocl_edge_runtime.sources import ImageSource

with ocl_edge.open(sys.argv[1]) as session:
    for frame in ImageSource(sys.argv[2]):
        mask = session.predict(frame.image, frame.captured_at)  # publish it: it does not wait for the update
        print(frame.name, mask.shape, session.adapt())
