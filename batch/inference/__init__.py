"""ONNX Runtime: providers, devices, sessions and batching."""

import os

# ONNX Runtime 1.29 and later send telemetry over the network and keep a database of it in the
# user's home. The first event is sent while the library is loaded, so this must run before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
