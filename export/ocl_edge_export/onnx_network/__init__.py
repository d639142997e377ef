"""An ONNX file as a network of PyTorch, which is then captured and cut as any other.

file        what the file holds, checked before anything is computed
layers      operators with weights, pooling, normalisation, resizing
arithmetic  operators on single values, reductions, layout, indices
network     the graph as a module: what no pixel decides is computed once, the rest at every image

The list of operators is closed, and none of them runs code of the file. (onnx2torch 1.5.15 of August 2024 has
no converter for 15 of them in files of operator set 18, Resize, Pad, Split and ReduceMean among them, and
none for 39, Conv too, in those of set 22.)
"""
