"""Labelled photos, and comparisons with other programs and with another checkout."""

from __future__ import annotations

import csv
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from batch.records import Photo
from batch.vision.decode import decode
from batch.vision.faces import Detector
from bench import tables
from bench.command import CommandError
from bench.comparisons import compare_checkouts
from bench.labelled import find_truths, judge_answers, unpack_photos
from bench.peers import measure_peers
from bench.plan import QUICK, Lot
from bench.results import Benchmark, Measurement
from bench.sets import SetSpec, make_set
from tests.bench.test_bench import assert_documented, source
from tests.conftest import REPOSITORY

__all__ = ["source"]

PEER = REPOSITORY / ".venv-peers" / "bin" / "python"


def fer_plus(folder: Path, astronaut: Image.Image, votes: dict[str, str]) -> Path:
    """A test part in the layout of FER+, with one face in all photos."""
    part = folder / "FER2013Test"
    part.mkdir(parents=True)
    with (part / "label.csv").open("w", newline="") as file:
        for name, counts in votes.items():
            astronaut.crop((170, 60, 280, 180)).convert("L").resize((48, 48)).save(part / name)
            csv.writer(file).writerow([name, "(0, 0, 48, 48)", *counts.split(",")])
    return folder


class TestLabelled:
    def test_answers_are_compared_with_the_truth(self) -> None:
        paths = [Path(name) for name in "abcdefg"]
        truths = dict(zip(paths, ["happy", "happy", "sad", "sad", *["neither"] * 3], strict=True))
        given = dict(zip(paths, ["happy", "sad", "sad", "neither", "happy", ""], strict=False))
        found = judge_answers(truths, given)
        assert (found.photos, found.answered) == (7, 0.75)
        assert found.right == pytest.approx(2 / 3)
        assert found.wrongly == pytest.approx(1 / 3)

    def test_photos_are_spread_evenly_over_the_named_folders(self, tmp_path: Path) -> None:
        for name in ("happy", "sad", "other"):
            (tmp_path / name).mkdir()
            for number in range(4):
                (tmp_path / name / f"{number}.jpg").touch()
        chosen = find_truths(tmp_path, 4)
        assert [(path.name, truth) for path, truth in chosen.items()] == [
            ("0.jpg", "happy"), ("2.jpg", "happy"), ("0.jpg", "sad"), ("2.jpg", "sad"),
        ]  # fmt: skip

    @pytest.mark.parametrize("packed", [False, True])
    def test_the_test_part_of_fer_plus_becomes_photos_with_a_face(
        self, packed: bool, tmp_path: Path, astronaut: Image.Image
    ) -> None:
        votes = {
            "a.png": "1,9,0,0,0,0,0,0,0,0",
            "b.png": "4,0,0,6,0,0,0,0,0,0",
            "c.png": "10,0,0,0,0,0,0,0,0,0",
            "tied.png": "5,5,0,0,0,0,0,0,0,0",
            "no-face.png": "0,0,0,0,0,0,0,0,0,10",
        }
        given = fer_plus(tmp_path / "ferplus", astronaut, votes)
        if packed:
            given = tmp_path / "ferplus.zip"
            with zipfile.ZipFile(given, "w") as pack:
                for path in sorted(tmp_path.rglob("FER2013Test/*")):
                    pack.write(path, path.relative_to(tmp_path))
        with unpack_photos(given) as folder:
            truths = find_truths(folder, 99)
            assert [(path.name, truth) for path, truth in truths.items()] == [
                ("a.jpg", "happy"), ("c.jpg", "neither"), ("b.jpg", "sad"),
            ]  # fmt: skip
            photo = decode(next(iter(truths)))
            assert isinstance(photo, Photo)
            assert len(Detector().detect(photo)) == 1

    def test_an_unreadable_file_is_named(self, tmp_path: Path) -> None:
        with (
            pytest.raises(CommandError, match=r"can't read .*no\.zip"),
            unpack_photos(tmp_path / "no.zip"),
        ):
            pass


class TestPeers:
    def test_speed_and_accuracy_of_every_program_are_measured(
        self, source: Path, tmp_path: Path, astronaut: Image.Image
    ) -> None:
        labelled = tmp_path / "people"
        for name, side in (("happy", 300), ("sad", 310)):
            (labelled / name).mkdir(parents=True)
            astronaut.resize((side, side)).save(labelled / name / "a.jpg")
        told: list[str] = []
        plan = replace(
            QUICK,
            lots=(Lot(SetSpec("as they are", 6, 3), sample=1, measured=6),),
            peer_pictures=3,
            peer_copies=2,
        )
        bench = Benchmark(plan, source, tmp_path / "sets", PEER, told.append, (labelled,))
        peers = bench.measure({Measurement.PEERS}).peers
        assert any("make bench-peers" in line for line in told) != PEER.is_file()
        assert [peer.name for peer in peers[-3:]] == [
            "plain.py", "batch-label", "batch-label -m happy-sad",
        ]  # fmt: skip
        assert len(peers) == (5 if PEER.is_file() else 3)
        for peer in peers:
            judged = peer.judged["people"]
            assert judged.photos == 2
            assert judged.answered is not None
            # Both photos show the same face, so at most one of the labels can be right.
            assert judged.answered < 1 or judged.right == 0.5
            assert peer.times.median == pytest.approx(peer.rate.median / peers[0].rate.median)
        assert peers[-1].judged["people"].answered == 1
        assert_documented(tables.peers_table(peers))
        assert_documented(tables.judged_table(peers))

    def test_a_program_that_fails_is_named(self, source: Path, tmp_path: Path) -> None:
        photos = make_set(SetSpec("as they are", 2, 2), source, tmp_path)
        with pytest.raises(CommandError, match=r"fer failed: .*No module named"):
            measure_peers(Path(sys.executable), photos, 2, 1, [], 1)

    def test_a_folder_without_labels_is_named(self, source: Path, tmp_path: Path) -> None:
        photos = make_set(SetSpec("as they are", 2, 2), source, tmp_path / "sets")
        (tmp_path / "empty").mkdir()
        with pytest.raises(CommandError, match="empty has no folder named happy or sad"):
            measure_peers(None, photos, 2, 1, [tmp_path / "empty"], 1)


class TestAgainst:
    def test_another_checkout_is_compared(self, source: Path, tmp_path: Path) -> None:
        photos = make_set(SetSpec("as they are", 2, 2), source, tmp_path)
        other = tmp_path / "other"
        other.mkdir()
        for name in ("batch", "models"):
            (other / name).symlink_to(REPOSITORY / name)
        (against,) = compare_checkouts(other, [photos], 1)
        assert (against.count, against.other) == (2, "other")
        assert against.times.median == pytest.approx(
            against.rate.median / against.other_rate.median
        )
        assert_documented(tables.against_table([against]))

    def test_another_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CommandError, match="is not a checkout of batch-label"):
            compare_checkouts(tmp_path, [], 1)
