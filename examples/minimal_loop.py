"""Segment a directory of images and adapt, in a loop of your own.

python examples/minimal_loop.py BUNDLE FRAMES
"""

import sys

import ocl_edge
from ocl_edge_runtime.sources import ImageSource

engine = ocl_edge.open(sys.argv[1])
for frame in ImageSource(sys.argv[2]):
    mask = engine.predict(frame.image, frame.captured_at)  # publish it here: it does not wait for the update
    update = engine.adapt()
    print(frame.name, mask.shape, update.reason if update else "nothing trains")
