"""Programs of our own: captured graphs as JSON, their tensors in a safetensors file beside them.

    {"version": 1,
     "inputs": ["features_0"],
     "tensors": {"classifier.weight": {"dtype": "float32", "shape": [5, 6, 1, 1], "parameter": true}},
     "nodes": [{"name": "conv2d", "operator": "aten.conv2d.default",
                "arguments": [{"node": "features_0"}, {"tensor": "classifier.weight"}, null, [1, 1]]}],
     "outputs": ["conv2d"]}

A program is data: nodes call operators of a closed list by name, on nodes before them. It
holds no code and no pickle, and reading one needs nothing but PyTorch and safetensors. All
programs of a bundle share one weight file.
"""

from ocl_edge.network.programs.reading import place, read_program
from ocl_edge.network.programs.shapes import Shape
from ocl_edge.network.programs.writing import write_program

__all__ = ["Shape", "place", "read_program", "write_program"]
