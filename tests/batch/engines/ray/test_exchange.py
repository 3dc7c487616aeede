"""Blocks and parts: round trips, invalid files, and the folder that holds them."""

from __future__ import annotations

import os
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from batch.engines.ray.exchange import (
    MAX_BLOCK_FILES,
    MIN_FILES_PER_WORKER,
    PIECES_PER_LOST_BLOCK,
    BasisMismatch,
    PartError,
    PartStore,
    block_name,
    find_parts_folder,
    make_run_name,
    pack_block,
    pack_part,
    part_name,
    split_into_blocks,
    split_lost_block,
    stop_name,
    unpack_block,
    unpack_part,
)
from batch.errors import OutputError
from batch.files.drafts import make_draft_name, open_draft
from batch.journal.journal import Journal
from batch.location import Url
from batch.log import LogFormat, open_log
from batch.options import ClusterOptions, EngineKind, Job
from batch.records import (
    Answer,
    Box,
    Failure,
    FileState,
    FinishedFile,
    Reason,
    Row,
    Source,
    Stage,
    Status,
)
from batch.stopping import Stop
from batch.vision.decide import make_failed_row

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

BASIS = b"b" * 32
ANSWER = Answer(
    Status.UNSURE, "happy", 0.1 + 0.2, {"happy": 0.1 + 0.2, "sad": 0.7}, Box(1.5, -2.0, 3, 4, 0.9)
)
NEITHER = Answer(Status.NEITHER, None, 2 / 3, {"happy": 1 / 3, "sad": 0.0, "neither": 2 / 3})
NO_PERSON = Answer(Status.NO_PERSON, None, 1.0, {"happy": 0.0, "sad": 0.0, "no_person": 1.0})
LABELLED = FinishedFile(
    Row(
        Path("a/b.jpg"), Status.UNSURE, ANSWER, Source.BOTH, (ANSWER,), 640, 480, salvaged="cut off"
    ),
    FileState(123, 2**63 - 1, b"d" * 32),
)
UNLABELLED = [
    FinishedFile(Row(Path("n.jpg"), Status.NEITHER, NEITHER, Source.FACE, (NEITHER, ANSWER), 6, 4)),
    FinishedFile(Row(Path("p.jpg"), Status.NO_PERSON, NO_PERSON, Source.IMAGE, width=6, height=4)),
]
FAILED = FinishedFile(
    make_failed_row(Failure(Path(os.fsdecode(b"\xff\n.jpg")), Stage.READ, Reason.VANISHED, "gone"))
)
COPIED = FinishedFile(
    Row(Url("s3://photos/c d.jpg"), Status.NO_FACE, width=1, height=2),
    FileState(5, None, b"e" * 32, etag="0123"),
    copied=True,
)


def test_a_part_is_read_as_it_was_written() -> None:
    finished = [LABELLED, *UNLABELLED, FAILED, COPIED]
    assert unpack_part(pack_part(finished, BASIS), BASIS) == finished
    assert unpack_part(pack_part([], BASIS), BASIS) == []


def test_a_time_beyond_the_journal_s_is_kept_as_the_journal_keeps_it() -> None:
    late = replace(LABELLED, state=FileState(1, 2**70))
    (read,) = unpack_part(pack_part([late], BASIS), BASIS)
    assert read.state == FileState(1, 2**63 - 1)


def test_a_part_of_another_basis_is_a_mismatch() -> None:
    with pytest.raises(BasisMismatch):
        unpack_part(pack_part([LABELLED], b"c" * 32), BASIS)


def test_no_truncated_part_is_read() -> None:
    data = pack_part([LABELLED, FAILED], BASIS)
    for end in range(0, len(data), 37):
        with pytest.raises(PartError):
            unpack_part(data[:end], BASIS)


def test_foreign_files_are_no_parts() -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    ours = pq.read_table(BytesIO(pack_part([LABELLED], BASIS)))
    rows = ours.column("row").to_pylist()
    foreign = [
        pa.table({"path": [b"a"]}),
        ours.replace_schema_metadata(None),
        ours.drop_columns(["digest"]),
        *(_with_row(ours, row) for row in ("{}", "[]", "1", '{"status":"great"}', rows[0][:-1])),
    ]
    for table in foreign:
        file = BytesIO()
        pq.write_table(table, file)
        with pytest.raises(PartError):
            unpack_part(file.getvalue(), BASIS)


def _with_row(table: object, row: str) -> object:
    import pyarrow as pa

    column = pa.array([row], pa.string())
    return table.set_column(6, "row", column)  # type: ignore[attr-defined]


class TestPlace:
    def test_parts_are_listed_in_the_order_of_their_runs_and_blocks(self, tmp_path: Path) -> None:
        parts = PartStore(tmp_path / "deep" / "parts")
        assert parts.list_parts() == []
        run = make_run_name()
        for number in (10, 9, 100):
            parts.write(part_name(run, number), b"data")
        parts.write(part_name("20200101T000000Z-ffffffff", 999), b"data")
        (tmp_path / "deep" / "parts" / "notes.txt").touch()
        assert [name[-11:-8] for name in parts.list_parts()] == ["999", "009", "010", "100"]
        assert parts.read(parts.list_parts()[0]) == b"data"
        assert parts.exists(part_name(run, 9))
        parts.remove(parts.list_parts())
        assert parts.list_parts() == []
        assert [path.name for path in (tmp_path / "deep" / "parts").iterdir()] == ["notes.txt"]

    def test_a_draft_is_not_listed(self, tmp_path: Path) -> None:
        run, other = make_run_name(), make_run_name()
        for name in (part_name(run, 1), block_name(run, 1), part_name(other, 1)):
            (tmp_path / make_draft_name(f".{name}")).write_bytes(b"half")
        _, stream = open_draft(tmp_path, f".{part_name(run, 2)}")
        parts = PartStore(tmp_path)
        assert parts.list_parts() == []
        parts.remove([], run)
        assert len(list(tmp_path.iterdir())) == 2, "another run's, and one that is written now"
        stream.close()
        parts.remove([])
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("is_own", [True, False])
    def test_only_a_folder_that_the_user_has_not_named_is_removed(
        self, tmp_path: Path, is_own: bool
    ) -> None:
        parts = PartStore(tmp_path / "parts", is_own)
        parts.write(part_name(make_run_name(), 1), b"data")
        parts.remove(parts.list_parts())
        assert (tmp_path / "parts").exists() is not is_own

    def test_other_files_in_the_folder_are_not_removed(self, tmp_path: Path) -> None:
        run = make_run_name()
        mine = {".photos.parquet.tmp", ".x-000000001.parquet.tmp", "photos.parquet", "a.block",
                "a.stop", f"{run}.block", f".{part_name(run, 1)}.tmp",
                make_draft_name(".photos.parquet")}  # fmt: skip
        for name in mine:
            (tmp_path / name).touch()
        parts = PartStore(tmp_path, is_own=True)
        for name in (part_name(run, 1), block_name(run, 2), stop_name(run)):
            parts.write(name, b"")
        assert set(parts.list_run_files()) == {block_name(run, 2), stop_name(run)}
        parts.remove([*mine, *parts.list_parts(), *parts.list_run_files()])
        assert {path.name for path in tmp_path.iterdir()} == mine

    def test_a_store_holds_parts_as_well(self) -> None:
        parts = PartStore(Url("memory://bucket/parts"))
        run = make_run_name()
        one, two = part_name(run, 1), part_name(run, 2)
        assert parts.list_parts() == []
        parts.write(two, b"two")
        parts.write(one, b"one")
        parts.write("mine.parquet", b"mine")
        assert parts.list_parts() == sorted([one, two, "mine.parquet"])
        assert (parts.read(two), parts.exists("c.parquet")) == (b"two", False)
        parts.remove([one, "mine.parquet"])
        assert parts.list_parts() == sorted([two, "mine.parquet"])

    def test_errors_name_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="file/parts can't be written"):
            PartStore(tmp_path / "file" / "parts").write("a.parquet", b"")

    def test_parts_lie_beside_the_report_by_default(self, tmp_path: Path) -> None:
        def place(output: str, parts: str | None = None) -> tuple[object, bool]:
            return find_parts_folder(
                Job((), output, cluster=ClusterOptions(EngineKind.RAY, parts=parts))
            )

        beside = tmp_path.resolve() / ".r.csv.parts"
        assert place(str(tmp_path / "r.csv")) == (beside, True)
        assert place("s3://b/x/r.csv") == (Url("s3://b/x/.r.csv.parts"), True)
        assert place("s3://b/x/r.csv", "s3://c/parts/") == (Url("s3://c/parts"), False)
        assert place("r.csv", str(tmp_path)) == (tmp_path.resolve(), False)


class TestBlocks:
    def test_every_file_is_in_one_block_and_blocks_grow(self) -> None:
        files = [Path(f"{number}.jpg") for number in range(200_000)]
        blocks = list(split_into_blocks(files, actors=2, workers=1))
        assert [file for block in blocks for file in block] == files
        sizes = [len(block) for block in blocks[:-1]]
        assert sizes == sorted(sizes)
        assert (sizes[0], sizes[-1]) == (MIN_FILES_PER_WORKER, MAX_BLOCK_FILES)

    def test_files_are_taken_lazily(self) -> None:
        files = (Path(str(number)) for number in range(100))
        next(split_into_blocks(files, actors=1, workers=2))
        assert next(files) == Path(str(2 * MIN_FILES_PER_WORKER))

    def test_blocks_keep_size_time_and_etag(self) -> None:
        here, there = Path(os.fsdecode(b"a\xff.jpg")), Url("s3://b/c.jpg", 20, None, "abc")
        first, second = unpack_block(pack_block([here, there]))
        assert first == here
        assert isinstance(second, Url)
        assert (second.text, second.size, second.mtime_ns, second.etag) == (
            *("s3://b/c.jpg", 20),
            *(None, "abc"),
        )

    @pytest.mark.parametrize("number", [1, 2, 5, 16, 17, 1024])
    def test_a_lost_block_is_divided_down_to_single_files(self, number: int) -> None:
        block = [Path(str(file)) for file in range(number)]
        divided = split_lost_block(block)
        assert [file for piece in divided for file in piece] == block
        assert (
            len(divided) == min(number, PIECES_PER_LOST_BLOCK)
            or len(divided) > PIECES_PER_LOST_BLOCK / 2
        )
        while len(block) > 1:
            block = [*split_lost_block(block)[0]]  # type: ignore[list-item]


@pytest.mark.parametrize("parts", [None, "parts"])
def test_notes_of_parts_last_as_long_as_the_parts(
    parts: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    from batch.engines.ray.ray_engine import PART_NOTE_PREFIX, RayEngine

    monkeypatch.chdir(tmp_path)
    job = Job((), "r.csv", cluster=ClusterOptions(EngineKind.RAY, parts=parts))
    engine = RayEngine(job, Stop(), open_log(None, LogFormat.TEXT))
    folder, is_own = find_parts_folder(job)
    run = make_run_name()
    names = [part_name(run, number) for number in range(3)]
    for name in names:
        PartStore(folder, is_own).write(name, pack_part([FAILED], engine._basis))
    with Journal(tmp_path / "journal", engine._basis) as journal:
        journal.write_note("other", "")
        assert len(list(engine.recover_finished(journal))) == len(names)
        assert not list(engine.recover_finished(journal))
        if not is_own:
            (tmp_path / "parts" / names[0]).unlink()
        engine.clean_up(journal)
        left = [name for name in names if journal.read_note(PART_NOTE_PREFIX + name) is not None]
        assert left == ([] if is_own else names[1:]) == PartStore(folder, is_own).list_parts()
        if not is_own:  # the folder may be unavailable
            (tmp_path / "parts").rename("away")
            engine.clean_up(journal)
            assert journal.read_note(PART_NOTE_PREFIX + names[1]) is not None
        assert journal.read_note("other") == ""
