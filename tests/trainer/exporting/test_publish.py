"""Publishing a model with its card replaces no foreign file."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch.errors import OutputError
from tests.support.trainer_data import tiny_export
from trainer.exporting.publish_model import publish_model


@pytest.mark.parametrize("name", ["tiny.md", "SHA256SUMS"])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_foreign_file_beside_a_model_is_not_replaced(
    tmp_path: Path, name: str, earlier: bool
) -> None:
    path, exported = tmp_path / "tiny.onnx", tiny_export()
    if earlier:
        publish_model(exported.graph, f"# tiny {exported.digest}", path)
    (tmp_path / name).write_text(f"{'0' * 64}  photos.tar\n")
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(OutputError, match=f"{name} was not written by the trainer"):
        publish_model(exported.graph, f"# tiny {exported.digest}", path)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
