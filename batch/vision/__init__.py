"""From a file's bytes to its row: decode, find faces, crop, classify, decide."""

# Version of everything that turns a file into its row, besides the models: decoding
# (``decode``, ``pixels``), face detection (``faces``), cropping (``crop``) and the decision
# (``decide``). Raise it with every change to their results: journals then label every photo
# again, and never mix old results with new ones.
# tests/batch/vision/test_preprocessing_version.py fails if the pixels change without it.
PREPROCESSING_VERSION = 5
