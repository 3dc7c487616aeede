from __future__ import annotations

from tests.support.trainer_data import drawn_dataset, tiny_export
from trainer.evaluation.exported_models import measure_inference, read_processor_name


def test_a_tiny_model_takes_less_than_a_second() -> None:
    speed = measure_inference(tiny_export().graph, drawn_dataset().test.pixels)
    assert 0 < speed.milliseconds < 1000
    assert speed.processor == read_processor_name()


def test_the_processor_name_is_one_line() -> None:
    assert read_processor_name().strip()
    assert "\n" not in read_processor_name()
