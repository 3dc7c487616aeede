"""ONNX Runtime, loaded with its reports turned off; everything else imports it from here."""

from __future__ import annotations

import os

# From release 1.29 on, ONNX Runtime reports to its makers over the network and keeps a database
# of it in the user's home. Photos and models are nobody's business. Once it is loaded is too late
# to say so, for an event has gone out by then.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

__all__ = ["ort"]
