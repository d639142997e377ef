"""Methods of other papers, each from its paper's formulas, to measure ours against them.

All work on the whole network in PyTorch (`published.Network`), on one frame at a time; every pixel of it is
a sample where the paper has images. Settings are the papers'. None of them is meant for a robot.
"""
