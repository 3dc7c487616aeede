"""Evaluation of models: metrics, calibration, thresholds and the gate."""
