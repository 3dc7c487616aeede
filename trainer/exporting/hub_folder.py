"""Writes a model as a folder in the layout of a model repository on the Hugging Face hub."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import onnx

from batch.errors import OutputError
from batch.files.drafts import DraftFolder, draft_stem, remove_contents
from batch.files.publish import sync_folder
from batch.models.model import Model
from batch.records import Region
from trainer.exporting.card_metadata import add_metadata, make_metadata, split_card

MODEL_FILE = "onnx/model.onnx"  # where Optimum and Transformers.js look for a graph
CARD_FILE = "README.md"
LICENSE_FILE = "LICENSE"
ATTRIBUTES = "*.onnx filter=lfs diff=lfs merge=lfs -text\n"
BILINEAR = 2  # the hub's number of the filter, as in Pillow

_USE_TEXT = """\
## How to run it

`{file}` takes uint8 [N, {height}, {width}, {channels}], channels last. Conversion to float,
normalisation and softmax are in the graph, so do not normalise before it. {region}

```sh
hf download USER/NAME {file} --local-dir .
batch-label photos/ --model {file} -o results.csv
```

`config.json` names the outputs. {preprocessor}"""
_REGION_TEXT = {
    Region.FACE: "Its input is a face, found and cropped as batch-label does, not a whole photo.",
    Region.IMAGE: "Its input is the whole photo, stretched to this size.",
}
_PREPROCESSOR_TEXT = {
    Region.FACE: "There is no `preprocessor_config.json`, because that format can't describe the "
    "search for a face.",
    Region.IMAGE: "`preprocessor_config.json` has the resizing, and no normalisation, because the "
    "graph does that.",
}


def make_hub_files(
    model: Model, card: str, license_id: str | None, license_text: bytes | None
) -> dict[str, bytes]:
    """Make the files of a model repository, by path.

    Args:
        model: the model.
        card: its card; a licence in its metadata, or else in the model file, is kept if none is
            given.
        license_id: identifier of the licence on the hub.
        license_text: text of the licence.
    """
    known, body = split_card(card)
    license_id = license_id or known.get("license") or _read_license(model)
    text = add_metadata(
        f"{body.rstrip()}\n\n{_describe_use(model)}\n", make_metadata(model.spec, license_id)
    )
    files = {
        ".gitattributes": ATTRIBUTES.encode(),
        CARD_FILE: text.encode(),
        "config.json": _to_json(_make_config(model)),
        MODEL_FILE: model.graph,
    }
    if model.spec.region is Region.IMAGE:
        files["preprocessor_config.json"] = _to_json(_make_preprocessor_config(model))
    if license_text is not None:
        files[LICENSE_FILE] = license_text
    return files


def write_hub_folder(files: Mapping[str, bytes], folder: Path) -> bool:
    """Write a folder with these files, all or none; return False if it has them already.

    Raises:
        OutputError: the folder has other files, or can't be written.
    """
    try:
        if folder.is_dir() and any(folder.iterdir()):
            if all(_has_content(folder / name, data) for name, data in files.items()):
                return False
            raise OutputError(
                f"{folder} is not empty and does not hold this model",
                "choose another folder, or move this one away",
            )
        _write_folder(files, folder)
    except OSError as error:
        raise OutputError(
            f"{folder} can't be written ({error.strerror})", "choose another folder"
        ) from error
    return True


def _write_folder(files: Mapping[str, bytes], folder: Path) -> None:
    target = Path(os.path.realpath(folder))
    target.parent.mkdir(parents=True, exist_ok=True)
    stem = draft_stem(target)
    for abandoned in DraftFolder.take_over_abandoned(target.parent, stem):
        abandoned.remove(remove_contents)
    draft = DraftFolder.make(target.parent, stem)
    try:
        for name, data in files.items():
            path = draft.content / name
            path.parent.mkdir(exist_ok=True)
            with path.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        draft.content.rename(target)  # replaces an empty folder
        sync_folder(target.parent)
    finally:
        draft.remove(remove_contents)


def _has_content(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


def _read_license(model: Model) -> str | None:
    """Read the licence of a model file that names one in its metadata."""
    props = onnx.load_from_string(model.graph).metadata_props
    return next((entry.value for entry in props if entry.key == "license"), None)


def _make_config(model: Model) -> dict[str, object]:
    """Make the ``config.json``, without ``model_type``: Transformers has no such network."""
    outputs = model.spec.outputs
    return {
        "id2label": {str(n): name for n, name in enumerate(outputs)},
        "label2id": {name: n for n, name in enumerate(outputs)},
        "image_size": [model.height, model.width],
        "num_channels": model.channels,
    }


def _make_preprocessor_config(model: Model) -> dict[str, object]:
    """Make the ``preprocessor_config.json`` of a whole-photo model.

    It names no processor: those of Transformers put channels first.
    """
    return {
        "do_convert_rgb": model.channels == 3,
        "do_resize": True,
        "size": {"height": model.height, "width": model.width},
        "resample": BILINEAR,
        "do_rescale": False,
        "do_normalize": False,
        "data_format": "channels_last",
    }


def _describe_use(model: Model) -> str:
    spec = model.spec
    return _USE_TEXT.format(
        file=MODEL_FILE,
        height=model.height,
        width=model.width,
        channels=model.channels,
        region=_REGION_TEXT[spec.region],
        preprocessor=_PREPROCESSOR_TEXT[spec.region],
    )


def _to_json(value: Mapping[str, object]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
