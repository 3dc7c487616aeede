"""Settings of Pillow's readers that are replaced by their names."""

from __future__ import annotations

import inspect
import re
from importlib import import_module

import pytest


@pytest.mark.parametrize(
    ("module", "setting"),
    [
        ("PIL.Image", "MAX_IMAGE_PIXELS"),
        ("PIL.ImageFile", "LOAD_TRUNCATED_IMAGES"),
        ("PIL.ImageFile", "self.decodermaxblock"),
        ("PIL.AvifImagePlugin", "DEFAULT_MAX_THREADS"),
        ("pillow_jxl.JpegXLImagePlugin", "DECODE_THREADS"),
    ],
)
def test_the_readers_have_the_settings_that_are_replaced(module: str, setting: str) -> None:
    """A name that a release no longer has can be set without an error, but changes nothing."""
    pytest.importorskip(module)
    source = inspect.getsource(import_module(module))
    assert len(re.findall(rf"(?<![\w.]){re.escape(setting)}\b", source)) >= 2  # set, and read
