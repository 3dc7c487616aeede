"""Workers that label photos all the way, as real processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from batch.cli.label import _launch_early
from batch.engines.local import LocalEngine
from batch.errors import ModelError, OutputError
from batch.location import Location
from batch.models.ensemble import LabellingPlan, load_ensemble
from batch.models.model import GoldenSamples
from batch.options import Device, FileLimits, Job, JournalOptions, Options, Provider
from batch.records import Failure, FileState, Photo, Reason, Region, Row, Status
from batch.vision.decode import decode
from batch.vision.labeller import Labeller
from batch.vision.yunet_graph import build_detector_graph
from batch.workers.child import SMALL_FILE_BYTES
from batch.workers.pool import WorkerPool
from batch.workers.process import (
    LABELLING_PROGRAM,
    LaunchedWorker,
    create_shared_file,
    launch_early,
    read_plan,
    write_plan,
)
from batch.workers.protocol import WorkerRequest
from batch.workers.worker import WorkerTask
from tests.batch.workers.test_pool import linux
from tests.support.tiny_models import bright_model, bright_spec, save_model

KNOWN = Row(Path("known.jpg"), Status.NO_FACE, width=1, height=1)


def _plan(folder: Path, **changes: object) -> LabellingPlan:
    model = save_model(bright_model(bright_spec(**changes)), folder / "bright.onnx")
    return LabellingPlan(
        load_ensemble(Options(model=str(model))), build_detector_graph(), batch_size=4
    )


def _workers(plan: LabellingPlan) -> WorkerPool:
    file = create_shared_file()
    write_plan(plan, file)
    return WorkerPool(
        WorkerTask(
            FileLimits(), LABELLING_PROGRAM, file, plan.ensemble.labels, plan.ensemble.outputs
        )
    )


def _question(path: Path) -> WorkerRequest:
    return WorkerRequest(path, digest=True, may_be_known=True)


@pytest.fixture
def plan(tmp_path: Path) -> LabellingPlan:
    return _plan(tmp_path)


@pytest.fixture
def workers(plan: LabellingPlan) -> Iterator[WorkerPool]:
    with _workers(plan) as workers:
        yield workers


@pytest.fixture
def photo(tmp_path: Path, astronaut: Image.Image) -> Path:
    astronaut.save(tmp_path / "photo.jpg")
    return tmp_path / "photo.jpg"


def test_a_worker_labels_as_this_process_does(
    workers: WorkerPool, plan: LabellingPlan, photo: Path
) -> None:
    decoded = decode(photo)
    assert isinstance(decoded, Photo)
    worked = workers.process(WorkerRequest(photo))
    assert worked.content == Labeller(plan, Device(Provider.CPU)).label(decoded)
    assert set(worked.seconds) == {"decode", "faces", "crop", "classify"}
    assert worked.state is not None
    assert worked.state.digest is None


def test_a_worker_may_answer_that_a_photo_has_no_label(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "black").save(tmp_path / "dark.png")
    plan = _plan(tmp_path, region=Region.IMAGE, abstain_from={"neither": 0.5, "no_person": 0.5})
    with _workers(plan) as workers:
        row = workers.process(WorkerRequest(tmp_path / "dark.png")).content
    assert isinstance(row, Row)
    assert row.answer is not None
    assert (row.status, row.answer.label, row.answer.confidence) == (Status.NO_PERSON, None, 0.75)


def test_a_known_file_is_not_labelled(workers: WorkerPool, photo: Path) -> None:
    asked: list[bytes | None] = []

    def known(path: Location, state: FileState) -> Row | None:
        asked.append(state.digest)
        return KNOWN if len(asked) == 2 else None

    first, second, third = (workers.process(_question(photo), known) for _ in range(3))
    assert first.content == third.content != KNOWN
    assert (first.copied, second.copied, third.copied) == (False, True, False)
    assert second.content == KNOWN
    assert second.seconds == {}
    assert second.state is not None
    assert asked == [second.state.digest] * 3


def test_what_the_journal_has_to_say_ends_the_run(workers: WorkerPool, photo: Path) -> None:
    def known(path: Location, state: FileState) -> Row | None:
        raise OutputError("the journal is full", "make room")

    with pytest.raises(OutputError):
        workers.process(_question(photo), known)
    assert isinstance(workers.process(WorkerRequest(photo)).content, Row)


def test_a_bad_file_is_a_failure(workers: WorkerPool, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    for path, reason in (("text.jpg", Reason.NOT_AN_IMAGE), ("nowhere.jpg", Reason.VANISHED)):
        content = workers.process(WorkerRequest(tmp_path / path)).content
        assert isinstance(content, Failure)
        assert content.reason is reason


def test_models_that_answer_wrongly_start_no_worker(tmp_path: Path) -> None:
    golden = bright_spec().golden
    golden.outputs[0] = (0.9, 0.1)
    with (
        _workers(_plan(tmp_path, golden=golden)) as workers,
        pytest.raises(ModelError, match="golden samples wrongly"),
    ):
        workers.start()


@linux
def test_a_worker_that_is_killed_is_replaced(workers: WorkerPool, photo: Path) -> None:
    workers.start()
    (worker,) = workers._idle

    def known(path: Location, state: FileState) -> Row | None:
        os.kill(worker.pid, signal.SIGKILL)
        return None

    content = workers.process(_question(photo), known).content
    assert isinstance(content, Failure)
    assert content.reason is Reason.CRASHED
    assert isinstance(workers.process(WorkerRequest(photo)).content, Row)


@linux
def test_a_worker_has_one_thread_and_needs_no_package_onnx(
    workers: WorkerPool, photo: Path
) -> None:
    workers.process(WorkerRequest(photo))
    (worker,) = workers._idle
    maps = Path(f"/proc/{worker.pid}/maps").read_text()
    assert "onnxruntime" in maps
    assert "onnx_cpp2py_export" not in maps
    assert len(list(Path(f"/proc/{worker.pid}/task").iterdir())) == 1


@pytest.mark.parametrize("size", [1, 2 * SMALL_FILE_BYTES])
def test_broken_and_known_files_by_turns_keep_their_rows(
    workers: WorkerPool, photo: Path, tmp_path: Path, size: int
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture" + bytes(size))

    def known(path: Location, state: FileState) -> Row | None:
        return KNOWN if next(turns) else None

    turns = iter((True, False, True, False))
    contents = [
        workers.process(_question(path), known).content for path in (broken, broken, photo, photo)
    ]
    assert contents[0] == contents[2] == KNOWN
    assert isinstance(contents[1], Failure)
    assert isinstance(contents[3], Row)
    assert contents[3].answer is not None


@pytest.fixture
def launched() -> Iterator[LaunchedWorker]:
    launched = launch_early(FileLimits())
    assert launched
    with closing(launched):
        yield launched


def test_a_worker_that_was_started_early_is_the_first_to_label(
    launched: LaunchedWorker, tmp_path: Path, photo: Path
) -> None:
    options = Options(
        model=str(save_model(bright_model(), tmp_path / "m.onnx")), provider=Provider.CPU
    )
    with closing(LocalEngine(options, launched=launched, check_now=False)) as pipeline:
        pipeline.check_models()
        (worker,) = pipeline._workers._idle
        assert worker.pid == launched.process.pid
        (finished,) = pipeline.label([photo])
        assert finished.row.answer
    assert launched.process.poll() == 0


def test_a_worker_that_was_started_early_opens_no_model_that_answers_wrongly(
    launched: LaunchedWorker, tmp_path: Path
) -> None:
    golden = bright_spec().golden
    wrong = bright_model(bright_spec(golden=GoldenSamples(golden.inputs, golden.outputs[::-1])))
    options = Options(model=str(save_model(wrong, tmp_path / "m.onnx")), provider=Provider.CPU)
    with (
        closing(LocalEngine(options, launched=launched, check_now=False)) as pipeline,
        pytest.raises(ModelError, match="golden samples wrongly"),
    ):
        pipeline.check_models()


def test_a_worker_that_was_started_early_ends_with_a_run_that_needs_none(
    launched: LaunchedWorker,
) -> None:
    launched.connection.close()  # as when the run is killed
    assert launched.process.wait(60) == 0
    other = launch_early(FileLimits())
    assert other
    other.close()
    assert other.process.poll() is not None


def test_a_worker_is_started_early_where_there_is_something_to_label(tmp_path: Path) -> None:
    def is_launched(provider: Provider, fresh: bool) -> bool:
        options, memory = Options(provider=provider), JournalOptions(fresh=fresh)
        job = Job(("photos",), str(tmp_path / "r.csv"), options=options, journal=memory)
        launched = _launch_early(job)
        if launched:
            launched.close()
        return launched is not None

    assert is_launched(Provider.CPU, fresh=False)
    assert not is_launched(Provider.CUDA, fresh=False)
    (tmp_path / ".r.csv.journal").touch()
    assert not is_launched(Provider.CPU, fresh=False)
    assert is_launched(Provider.CPU, fresh=True)


@linux
def test_no_worker_can_change_what_later_ones_are_given(plan: LabellingPlan) -> None:
    with create_shared_file() as file:
        write_plan(plan, file)
        for change in (
            lambda: os.ftruncate(file.fileno(), 0),
            lambda: os.pwrite(file.fileno(), b"other", 0),
        ):
            with pytest.raises(PermissionError):
                change()
        assert read_plan(file.fileno()).batch_size == plan.batch_size
