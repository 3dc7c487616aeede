from __future__ import annotations

import numpy as np
import pytest

from batch.models.model import GOLDEN_TOLERANCE, MIN_GOLDEN_SPREAD
from tests.support.trainer_data import FRAMING, abstaining_training, make_wide_split, wide_training
from trainer.datasets.dataset import Votes
from trainer.evaluation.exported_models import predict_onnx
from trainer.exporting import golden_samples as golden
from trainer.exporting.golden_samples import (
    MIN_EXERCISED,
    choose_golden_samples,
    rechoose_golden_samples,
)
from trainer.exporting.onnx_graph import (
    DeployedNetwork,
    export_graph,
    predict_torch,
    serialise_with_metadata,
)
from trainer.exporting.weight_formats import quantize

JOINED: Votes = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]], np.float32)


def spread(outputs: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> float:
    return float((outputs.max(axis=0) - outputs.min(axis=0)).min())


@pytest.mark.parametrize("groups", [None, JOINED])
def test_every_output_is_exercised(groups: Votes | None) -> None:
    deployed = DeployedNetwork(wide_training().network, (0, 1, 2, 3), 1.0, groups=groups)
    graph = serialise_with_metadata(export_graph(deployed, FRAMING), {})
    samples = choose_golden_samples(deployed, graph, FRAMING)
    assert samples.outputs.shape == (len(samples.inputs), 3 if groups is not None else 4)
    assert (samples.outputs.max(axis=0) > MIN_EXERCISED).all()
    assert spread(samples.outputs) > 10 * GOLDEN_TOLERANCE
    assert len({sample.tobytes() for sample in samples.inputs}) == len(samples.inputs)
    np.testing.assert_array_equal(samples.outputs, predict_onnx(graph, samples.inputs))


def test_gradient_ascent_exercises_an_output_that_no_picture_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happy = make_wide_split(40, 7).pixels[::4]
    deployed = DeployedNetwork(wide_training().network, (0, 1, 2, 3), 1.0)
    graph = serialise_with_metadata(export_graph(deployed, FRAMING), {})
    happy = happy[predict_onnx(graph, happy)[:, 1:].max(axis=1) < MIN_EXERCISED]
    assert len(happy) > 4
    monkeypatch.setattr(golden, "make_pictures", lambda *_: happy)
    samples = choose_golden_samples(deployed, graph, FRAMING)
    assert (samples.outputs.max(axis=0) > MIN_EXERCISED).all()


def test_gradient_ascent_does_not_begin_at_a_flat_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The contrast of a picture is normalised, so a flat one has no gradient."""
    drawn = make_wide_split(80, 7).pixels
    flat = np.full_like(drawn[:1], 128)
    deployed = DeployedNetwork(wide_training().network, (0, 1, 2, 3), 1.0)
    graph = serialise_with_metadata(export_graph(deployed, FRAMING), {})
    of_flat = predict_onnx(graph, flat)[0]
    weak = int(of_flat.argsort()[-2])  # never the answer, so it is below MIN_EXERCISED
    # No other picture is a likelier start for this output.
    drawn = drawn[predict_onnx(graph, drawn)[:, weak] < of_flat[weak]]
    assert len(drawn) > 4
    pool = np.concatenate([flat, drawn])
    monkeypatch.setattr(golden, "make_pictures", lambda *_: pool)
    samples = choose_golden_samples(deployed, graph, FRAMING)
    assert set(samples.outputs.argmax(axis=1)) == {0, 1, 2, 3}


def test_an_output_that_no_golden_sample_shows_is_named(caplog: pytest.LogCaptureFixture) -> None:
    answers = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]], np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(golden, "predict_onnx", lambda _, inputs: answers[: len(inputs)])
        pool = np.arange(2, dtype=np.uint8).reshape(2, 1, 1, 1)
        golden._choose_extremes(b"", pool, answers, np.zeros(2, np.bool_))
    assert "output 3 is the answer to no golden sample" in caplog.text


def test_samples_with_the_same_answer_in_int8_are_preferred() -> None:
    trained, data = abstaining_training()
    deployed = DeployedNetwork(trained.network, (0, 1, 2, 3), 1.0)
    graph = serialise_with_metadata(
        quantize(export_graph(deployed, FRAMING), data.train.pixels), {}
    )
    samples = choose_golden_samples(deployed, graph, FRAMING)
    pool = golden.make_pictures(FRAMING.side, FRAMING.channels)
    apart = np.abs(predict_torch(deployed, pool) - predict_onnx(graph, pool)).max(axis=1)
    assert (apart >= GOLDEN_TOLERANCE / 2).any()
    chosen = np.abs(predict_torch(deployed, samples.inputs) - samples.outputs).max(axis=1)
    assert (chosen < GOLDEN_TOLERANCE / 2).mean() > (apart < GOLDEN_TOLERANCE / 2).mean()
    assert (samples.outputs.max(axis=0) > MIN_EXERCISED).all()


def test_steady_extremes_are_taken_if_they_show_the_output() -> None:
    output = np.array([0.1, 0.7, 0.99, 0.0], np.float32)
    steady = np.array([True, True, False, False])
    assert golden._find_extremes(output, steady) == (1, 0)
    # A steady sample that does not exercise the output is not enough.
    assert golden._find_extremes(output * np.float32(0.8), steady)[0] == 2
    assert golden._find_extremes(output, np.zeros(4, np.bool_)) == (2, 3)
    # Nor is one that hardly differs from the highest.
    assert golden._find_extremes(np.array([0.65, 0.7, 0.0], np.float32), steady[:3]) == (1, 2)


def test_the_same_network_gets_the_same_samples() -> None:
    deployed = DeployedNetwork(wide_training().network, (0, 1, 2, 3), 1.0)
    graph = serialise_with_metadata(export_graph(deployed, FRAMING), {})
    first, second = (choose_golden_samples(deployed, graph, FRAMING) for _ in range(2))
    np.testing.assert_array_equal(first.inputs, second.inputs)


def test_a_graph_alone_gets_samples_that_exercise_its_outputs() -> None:
    trained, _ = abstaining_training()
    deployed = DeployedNetwork(trained.network, (0, 1, 2, 3), 1.0)
    graph = serialise_with_metadata(export_graph(deployed, FRAMING), {})
    alike = np.zeros((4, FRAMING.side, FRAMING.side, FRAMING.channels), np.uint8)
    samples = rechoose_golden_samples(graph, alike)
    assert (np.ptp(samples.outputs, axis=0) > MIN_GOLDEN_SPREAD).all()
    assert (np.ptp(predict_onnx(graph, alike), axis=0) <= MIN_GOLDEN_SPREAD).all()
