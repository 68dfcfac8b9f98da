"""Generators as files for other programs: ONNX models, ncnn pairs and PyTorch files."""
