"""ONNX -> compiled engines, each in its own process."""
