from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.trainer_data import find_real_data, write_ferplus
from trainer.datasets.dataset import keep_classes
from trainer.datasets.drawn_faces import Mood, draw_snapshot
from trainer.datasets.ferplus import FERPLUS_LABELS, NotFerPlus, is_ferplus, load_ferplus

HAPPY = [0, 9, 1, 0, 0, 0, 0, 0, 0, 0]
SPLIT = [3, 3, 2, 2, 0, 0, 0, 0, 0, 0]
NOT_A_FACE = [0, 2, 0, 0, 0, 0, 0, 0, 0, 8]
TORN = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
ROWS = {
    "FER2013Train": [HAPPY, SPLIT, NOT_A_FACE, TORN],
    "FER2013Valid": [HAPPY],
    "FER2013Test": [SPLIT, HAPPY],
}


def test_votes_follow_the_papers_rules(tmp_path: Path) -> None:
    data = load_ferplus(write_ferplus(tmp_path, ROWS))
    assert data.labels == FERPLUS_LABELS
    assert (len(data.train), len(data.validation), len(data.test)) == (2, 1, 2)
    np.testing.assert_allclose(data.train.votes[0], [0, 1, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(data.train.votes[1], [0.3, 0.3, 0.2, 0.2, 0, 0, 0, 0])
    assert data.train.certain.tolist() == [True, False]
    np.testing.assert_array_equal(data.train.pixels[1], draw_snapshot(Mood.HAPPY, 48, 1, 1))


def test_a_zip_file_gives_the_same_as_its_folder(tmp_path: Path) -> None:
    folder = write_ferplus(tmp_path / "wrapped" / "ferplus", ROWS)
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "wrapped")
    assert load_ferplus(Path(archive)).fingerprint == load_ferplus(folder).fingerprint
    assert load_ferplus(folder.parent).fingerprint == load_ferplus(folder).fingerprint


def test_another_size_of_picture_is_refused_by_name(tmp_path: Path) -> None:
    root = write_ferplus(tmp_path, ROWS)
    Image.new("L", (40, 48)).save(root / "FER2013Valid" / "fer0000000.png")
    with pytest.raises(NotFerPlus, match=r"FER2013Valid/fer0000000\.png"):
        load_ferplus(root)


def test_a_broken_picture_is_refused_by_name(tmp_path: Path) -> None:
    root = write_ferplus(tmp_path, ROWS)
    (root / "FER2013Valid" / "fer0000000.png").write_bytes(b"no picture")
    with pytest.raises(NotFerPlus, match=r"FER2013Valid/fer0000000\.png"):
        load_ferplus(root)


def test_a_missing_picture_is_refused_by_name(tmp_path: Path) -> None:
    root = write_ferplus(tmp_path, ROWS)
    (root / "FER2013Train" / "fer0000000.png").unlink()
    with pytest.raises(NotFerPlus, match=r"FER2013Train/fer0000000\.png"):
        load_ferplus(root)


def test_a_missing_part_is_refused_by_name(tmp_path: Path) -> None:
    root = write_ferplus(tmp_path, ROWS)
    shutil.rmtree(root / "FER2013Test")
    with pytest.raises(NotFerPlus, match=r"FER2013Test/label\.csv"):
        load_ferplus(root)


def test_anything_else_is_not_ferplus(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no archive")
    for source in (tmp_path, tmp_path / "absent", tmp_path / "text.zip"):
        assert not is_ferplus(source)
        with pytest.raises(NotFerPlus, match=source.name):
            load_ferplus(source)


def test_the_real_ferplus_has_the_published_counts() -> None:
    data = load_ferplus(find_real_data("ferplus.zip"))
    # Published are 28,385 and 3,555; the rest are copies of held-out faces.
    assert (len(data.train), len(data.validation), len(data.test)) == (26657, 3430, 3545)
    assert data.test.certain.sum() == 3137
    happy_sad = (FERPLUS_LABELS.index("happiness"), FERPLUS_LABELS.index("sadness"))
    assert keep_classes(data.test, happy_sad).certain.sum() == 1274
