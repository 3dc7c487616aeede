"""Labels and preprocessing of Hugging Face models, as ``transformers`` saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from batch.errors import InputError
from trainer.importing.hugging_face import read_id2label, read_processor

# What transformers 4.57 writes for ViTImageProcessor, ConvNextImageProcessor and
# MobileNetV2ImageProcessor, and an older release for ViTFeatureExtractor.
COMMON = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.25],
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
}
SQUARE = {"height": 224, "width": 224}
VIT = COMMON | {"image_processor_type": "ViTImageProcessor", "size": SQUARE}
CONVNEXT = COMMON | {
    "image_processor_type": "ConvNextImageProcessor",
    "crop_pct": 0.875,
    "resample": 3,
    "size": {"shortest_edge": 224},
}
MOBILENET = COMMON | {
    "image_processor_type": "MobileNetV2ImageProcessor",
    "crop_size": SQUARE,
    "do_center_crop": True,
    "do_reduce_labels": False,
    "size": {"shortest_edge": 256},
}
OLD_VIT = {
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "ViTFeatureExtractor",
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "size": 224,
}


def write(folder: Path, **values: Any) -> Path:
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (VIT, ("stretch", 224, None)),
        (CONVNEXT, ("crop", 224, 256)),
        (CONVNEXT | {"size": {"shortest_edge": 384}}, ("stretch", 384, None)),
        (MOBILENET, ("crop", 224, 256)),
        (MOBILENET | {"size": {"shortest_edge": 224}}, ("crop", 224, None)),
        (MOBILENET | {"size": 256, "crop_size": 224}, ("crop", 224, 256)),
        (OLD_VIT, ("stretch", 224, None)),
    ],
)
def test_resizing_is_read(
    config: dict[str, Any], expected: tuple[str, int, int | None], tmp_path: Path
) -> None:
    prep = read_processor(write(tmp_path, **config))
    assert (prep.resize, prep.side, prep.shorter_side) == expected
    assert prep.scale == pytest.approx(1 / 255)
    assert prep.mean == (0.5, 0.5, 0.5)


def test_scaling_is_read_and_a_folder_will_do(tmp_path: Path) -> None:
    write(tmp_path, **CONVNEXT)
    prep = read_processor(tmp_path)
    assert (prep.std, prep.shift, prep.bgr) == ((0.5, 0.5, 0.25), 0.0, False)
    assert prep.resample is Image.Resampling.BICUBIC
    write(tmp_path, **VIT, do_flip_channel_order=True, rescale_offset=True)
    prep = read_processor(tmp_path)
    assert (prep.shift, prep.bgr) == (-1.0, True)
    write(tmp_path, **(VIT | {"do_normalize": False, "do_rescale": False}))
    prep = read_processor(tmp_path)
    assert (prep.scale, prep.mean, prep.std) == (1.0, (0.0,), (1.0,))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (VIT | {"do_pad": True}, "the step do_pad"),
        (VIT | {"include_top": True}, "the step include_top"),
        (VIT | {"do_resize": False}, "do_resize is false"),
        (VIT | {"image_processor_type": "LevitImageProcessor"}, "the type LevitImageProcessor"),
        (VIT | {"size": {"height": 64, "width": 32}}, "32 x 64 pixels, which is not square"),
        (VIT | {"size": {"longest_edge": 64}}, "a value that is not understood"),
        (VIT | {"image_mean": "bright"}, "a value that is not understood"),
        (COMMON | {"size": {"shortest_edge": 64}}, "a size that depends on the picture"),
        (MOBILENET | {"size": {"shortest_edge": 64}}, "a crop of 224 pixels from a shorter side"),
        (MOBILENET | {"size": {"height": 256, "width": 256}}, "from a stretched picture of 256"),
        ({}, "a value that is not understood"),
    ],
)
def test_what_no_option_expresses_is_refused(
    config: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = write(tmp_path, **config)
    with pytest.raises(InputError, match=words) as caught:
        read_processor(path)
    assert str(path) in caught.value.problem
    assert "--range" in caught.value.remedy


def test_labels_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"id2label": {"10": "k", **{str(n): f"l{n}" for n in range(10)}}}))
    assert read_id2label(path) == (*(f"l{n}" for n in range(10)), "k")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "has no id2label"),
        ('{"id2label": {"0": "a", "2": "b"}}', "does not number its labels from 0 to 1"),
        ('{"id2label": {"a": "b"}}', "a key that is not a number"),
        ('{"id2label": {"0": 1}}', "has no id2label"),
        ("[]", "is not a JSON object"),
        ("{", "is not JSON"),
        (None, "can't be read"),
    ],
)
def test_a_broken_config_is_refused(text: str | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_id2label(path)
