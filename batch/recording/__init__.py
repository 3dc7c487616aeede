"""Records of a run: run.json, metrics, and drift detection."""
