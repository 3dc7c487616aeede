"""Real workers that label photos with a tiny model.

Import the fixtures where they are used:
``from tests.support.worker_processes import photo, plan, workers``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from batch.models.ensemble import load_ensemble
from batch.options import FileLimits, Options
from batch.vision import plan as vision_plan
from batch.vision.plan import LabellingPlan
from batch.workers.pool import WorkerPool
from batch.workers.process import LABELLING_PROGRAM, create_shared_file, write_plan
from batch.workers.worker import WorkerTask
from tests.support.tiny_models import bright_model, bright_spec, save_model

linux = pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")


def make_plan(folder: Path, **changes: object) -> LabellingPlan:
    model = save_model(bright_model(bright_spec(**changes)), folder / "bright.onnx")
    return vision_plan.make_plan(load_ensemble(Options(model=str(model))), batch_size=4)


def make_workers(plan: LabellingPlan) -> WorkerPool:
    file = create_shared_file()
    write_plan(plan, file)
    names = plan.ensemble.labels, plan.ensemble.outputs
    return WorkerPool(WorkerTask(FileLimits(), LABELLING_PROGRAM, file, *names))


@pytest.fixture
def plan(tmp_path: Path) -> LabellingPlan:
    return make_plan(tmp_path)


@pytest.fixture
def workers(plan: LabellingPlan) -> Iterator[WorkerPool]:
    with make_workers(plan) as workers:
        yield workers


@pytest.fixture
def photo(tmp_path: Path, astronaut: Image.Image) -> Path:
    astronaut.save(tmp_path / "photo.jpg")
    return tmp_path / "photo.jpg"
