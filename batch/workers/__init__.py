"""The worker processes that decode and label photos, and the messages between them and a run."""
