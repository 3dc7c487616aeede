from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.trainer_data import tiny_export, tiny_training
from trainer.cli.plots import plot_confusion, plot_curves, plot_reliability


def test_each_plot_is_a_png_that_is_not_blank(tmp_path: Path) -> None:
    test = tiny_export().test
    plot_curves(tiny_training().history, tmp_path / "curves.png")
    plot_confusion(test, tmp_path / "confusion.png")
    plot_reliability(test.reliability, tmp_path / "reliability.png")
    for name in ("curves", "confusion", "reliability"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.format == "PNG"
            tones = np.unique(np.asarray(image.convert("L")))
        assert len(tones) > 10
