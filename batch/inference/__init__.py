"""Where models run, and ONNX Runtime's sessions."""
