from __future__ import annotations

import copy
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from batch.errors import InputError, ModelError, OutputError, UsageError
from batch.models.contract import load_model
from batch.models.fusion import pack_fusion
from batch.models.model import GOLDEN_TOLERANCE, Model
from batch.records import Abstain
from tests.support.tiny_models import bright_fusion
from tests.support.trainer_data import (
    FRAMING,
    REPOSITORY,
    abstaining_training,
    drawn_dataset,
    tiny_export,
    tiny_training,
    wide_dataset,
    wide_training,
)
from trainer.cli.export import _read_fusion
from trainer.datasets.dataset import Pixels, Split, compute_class_shares, select_samples
from trainer.datasets.drawn_faces import Mood, draw_face
from trainer.evaluation.calibration import fit_temperature, softmax
from trainer.evaluation.metrics import Probabilities, Targets
from trainer.evaluation.out_of_fold import OutOfFold, name_sample
from trainer.evaluation.thresholds import ChosenThresholds, choose_thresholds, clopper_pearson_bound
from trainer.exporting.export import (
    ExportedModel,
    ExportOptions,
    describe_unkept_risk,
    export_model,
)
from trainer.exporting.model_card import write_card
from trainer.exporting.onnx_graph import (
    DeployedNetwork,
    ParityError,
    check_parity,
    export_graph,
    round_to_float16,
    serialise_with_metadata,
    store_as_float16,
)
from trainer.exporting.publish_model import list_checksums, publish_model, read_card
from trainer.exporting.weight_formats import BuiltGraph, WeightFormat, build_graph, quantize
from trainer.networks import FaceNet
from trainer.training.loop import predict_logits
from trainer.training.pretrained import build_network, initialise_network

# Operators that ONNX Runtime's CUDA provider has kernels for. None of them works on shapes, which
# ONNX Runtime would keep on the CPU.
OPERATORS = {
    "Add", "AveragePool", "Cast", "Conv", "Div", "Mul", "ReduceMean", "Relu", "Softmax",
    "Sqrt", "Squeeze", "Sub", "Transpose",
}  # fmt: skip
OPTIONS = ExportOptions(
    name="tiny", created="2026-01-02", labels={"happy": "happiness", "sad": "sadness"}
)


def answers(graph: bytes, pixels: Pixels, batch: int, threads: int = 1) -> Probabilities:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    outputs = [
        session.run(None, {name: pixels[at : at + batch]})[0] for at in range(0, len(pixels), batch)
    ]
    return np.concatenate(outputs)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("models") / "tiny.onnx"
    publish_model(tiny_export().graph, "card", path)
    return load_model(path)


@pytest.fixture(scope="module")
def proto(model: Model) -> onnx.ModelProto:
    return onnx.load_model_from_string(model.graph)


def test_the_file_keeps_the_contract_and_has_its_metadata(model: Model) -> None:
    spec = model.spec
    assert (spec.name, spec.version, spec.created) == ("tiny", "1", "2026-01-02")
    assert spec.labels == ("happy", "sad")
    assert (model.height, model.width, model.channels) == (24, 24, 1)
    assert spec.data_fingerprint == drawn_dataset().fingerprint
    assert spec.label_shares == {"happy": 0.5, "sad": 0.5}
    assert spec.metrics["samples"] == 36
    assert spec.metrics["split"] == "test"
    assert 0 < spec.unsure_below < 1
    assert spec.abstain == ()


def test_answers_are_the_networks_own_logits_of_the_chosen_labels(model: Model) -> None:
    pixels = drawn_dataset().test.pixels
    logits = predict_logits(tiny_training().network, pixels)[:, :2]
    wanted = torch.softmax(logits / tiny_export().calibration.temperature, dim=1).numpy()
    found = answers(model.graph, pixels, 64)
    np.testing.assert_allclose(found, wanted, atol=2e-3)
    assert not np.allclose(found, found[0], atol=0.05)


def test_golden_samples_have_the_networks_answers(model: Model) -> None:
    golden = model.spec.golden
    deployed = round_to_float16(
        DeployedNetwork(tiny_training().network, (0, 1), tiny_export().calibration.temperature)
    )
    with torch.inference_mode():
        wanted = deployed(torch.tensor(golden.inputs)).numpy()
    assert np.abs(wanted - golden.outputs).max() < GOLDEN_TOLERANCE / 10


@pytest.mark.parametrize("threads", [1, 2])
def test_answers_are_bit_identical_in_any_batch(model: Model, threads: int) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (40, 24, 24, 1), dtype=np.uint8)
    pixels = np.concatenate([noise, drawn_dataset().test.pixels])[:99]
    alone = answers(model.graph, pixels, 1)
    for batch in (2, 33, 64):
        np.testing.assert_array_equal(answers(model.graph, pixels, batch, threads), alone)


def test_every_node_can_run_on_a_gpu(proto: onnx.ModelProto) -> None:
    assert {node.op_type for node in proto.graph.node} <= OPERATORS
    assert {node.domain for node in proto.graph.node} == {""}
    assert [(opset.domain, opset.version) for opset in proto.opset_import] == [("", 18)]


def test_colour_needs_no_other_operators() -> None:
    network = FaceNet(3, (4, 8), channels=3)
    graph = export_graph(DeployedNetwork(network, (0, 2), 1.0), replace(FRAMING, channels=3))
    assert {node.op_type for node in graph.graph.node} <= OPERATORS
    store_as_float16(graph)
    assert {node.op_type for node in graph.graph.node} <= OPERATORS
    pixels = np.stack([draw_face(mood, 24, 3, 1) for mood in Mood])
    assert (
        check_parity(
            DeployedNetwork(network, (0, 2), 1.0), serialise_with_metadata(graph, {}), pixels
        )
        < 1e-4
    )


def test_nothing_of_the_exporting_machine_is_in_the_file(
    model: Model, proto: onnx.ModelProto
) -> None:
    for trace in (str(REPOSITORY), str(Path.home()), "/tmp", ".py", "site-packages", "forward"):
        assert trace.encode() not in model.graph
    for node in proto.graph.node:
        assert not node.doc_string
        assert not node.metadata_props


def test_weights_are_stored_as_float16_without_loss(proto: onnx.ModelProto) -> None:
    kinds = {tensor.data_type for tensor in proto.graph.initializer if len(tensor.dims) > 1}
    assert kinds == {onnx.TensorProto.FLOAT16}
    deployed = round_to_float16(
        DeployedNetwork(tiny_training().network, (0, 1), tiny_export().calibration.temperature)
    )
    pixels = drawn_dataset().test.pixels
    with torch.inference_mode():
        wanted = deployed(torch.tensor(pixels)).numpy()
    np.testing.assert_allclose(answers(tiny_export().graph, pixels, 64), wanted, atol=1e-6)


def test_a_mirrored_model_answers_a_picture_and_its_mirror_image_alike() -> None:
    options = replace(OPTIONS, mirrored=True, weights=WeightFormat.FLOAT32)
    exported = export_model(tiny_training(), drawn_dataset(), options)
    pixels = drawn_dataset().test.pixels
    mirrored = np.ascontiguousarray(pixels[:, :, ::-1])
    found = answers(exported.graph, pixels, 64)
    np.testing.assert_allclose(found, answers(exported.graph, mirrored, 7), atol=1e-6)
    network = tiny_training().network
    logits = (predict_logits(network, pixels) + predict_logits(network, mirrored)) / 2
    wanted = torch.softmax(logits[:, :2] / exported.calibration.temperature, dim=1).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    plain = answers(tiny_export().graph, pixels, 64)
    assert not np.allclose(plain, answers(tiny_export().graph, mirrored, 64), atol=0.01)


def test_a_mirrored_model_is_bit_identical_in_any_batch_and_runs_on_a_gpu(tmp_path: Path) -> None:
    options = replace(OPTIONS, mirrored=True)
    graph = export_model(tiny_training(), drawn_dataset(), options).graph
    pixels = drawn_dataset().test.pixels
    assert np.array_equal(answers(graph, pixels, 1), answers(graph, pixels, 33))
    used = {node.op_type for node in onnx.load_model_from_string(graph).graph.node}
    assert used <= OPERATORS | {"Concat", "Gather", "Reshape", "Slice"}


def test_the_same_training_gives_the_same_bytes_but_for_the_date() -> None:
    again = export_model(tiny_training(), drawn_dataset(), OPTIONS)
    later = export_model(tiny_training(), drawn_dataset(), replace(OPTIONS, created="2026-01-03"))
    assert again.graph == tiny_export().graph
    assert later.graph != again.graph
    assert later.graph.replace(b"2026-01-03", b"2026-01-02") == again.graph


def test_float32_weights_are_kept_on_request_in_twice_the_size() -> None:
    full = export_model(
        tiny_training(), drawn_dataset(), replace(OPTIONS, weights=WeightFormat.FLOAT32)
    )
    assert full.weights is WeightFormat.FLOAT32
    assert tiny_export().weights is WeightFormat.FLOAT16
    proto = onnx.load_model_from_string(full.graph)
    kinds = {tensor.data_type for tensor in proto.graph.initializer if len(tensor.dims) > 1}
    assert kinds == {onnx.TensorProto.FLOAT}


def test_the_parity_check_detects_another_network() -> None:
    torch.manual_seed(4)
    other = DeployedNetwork(FaceNet(3, (4, 8)), (0, 1), 1.0)
    with pytest.raises(ParityError, match="differ by"):
        check_parity(other, tiny_export().graph, drawn_dataset().validation.pixels)


def spoiled(part: Split) -> Split:
    """Give every other sample a wrong label, which changes every choice made on them."""
    votes = part.votes.copy()
    votes[::2] = np.roll(votes[::2], 1, axis=1)
    return replace(part, votes=votes)


def test_calibration_and_thresholds_come_from_validation_alone() -> None:
    data = wide_dataset()
    options = ExportOptions(
        name="t",
        created="2026-01-02",
        labels=OPTIONS.labels,
        rest=Abstain.NEITHER,
        prior_correction=None,
        risk=0.3,
    )
    found = {}
    for spoilt in ("", "test", "validation"):
        changes: dict[str, Any] = {spoilt: spoiled(data.get_split(spoilt))} if spoilt else {}
        changed = replace(data, **changes)
        trained = replace(wide_training(), fingerprint=changed.fingerprint)
        exported = export_model(trained, changed, options)
        thresholds = (exported.spec.unsure_below, *exported.spec.abstain_from.values())
        found[spoilt] = (exported.calibration, thresholds, exported.chosen)
    assert found[""] == found["test"]
    # The same samples in the validation split do change it, so this comparison can fail.
    assert found[""][0].temperature != found["validation"][0].temperature
    assert found[""][2] != found["validation"][2]


def test_weight_formats_see_validation_and_training_samples_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, chosen_on, ranges = drawn_dataset(), [], []

    def spy_on_choice(deployed: Any, how: Any, data: Any, validation: Split) -> BuiltGraph:
        chosen_on.append(validation.pixels)
        return build_graph(deployed, how, data, validation)

    def spy_on_ranges(graph: onnx.ModelProto, pixels: Pixels) -> onnx.ModelProto:
        ranges.append(pixels)
        return quantize(graph, pixels)

    monkeypatch.setattr("trainer.exporting.export.build_graph", spy_on_choice)
    monkeypatch.setattr("trainer.exporting.weight_formats.quantize", spy_on_ranges)
    export_model(tiny_training(), data, replace(OPTIONS, weights=WeightFormat.INT8))
    assert np.array_equal(ranges[0], data.train.pixels)
    names = {name_sample(pixels) for pixels in data.validation.pixels}
    assert len(chosen_on[0])
    assert {name_sample(pixels) for pixels in chosen_on[0]} <= names


def test_the_file_names_the_data_that_the_training_saw() -> None:
    elder = replace(tiny_training(), fingerprint="0" * 64)
    exported = export_model(elder, replace(drawn_dataset(), original_fingerprint="0" * 64), OPTIONS)
    assert exported.spec.data_fingerprint == "0" * 64


def test_other_data_and_unknown_labels_are_refused() -> None:
    data = drawn_dataset()
    with pytest.raises(InputError, match="not the data of this training"):
        export_model(tiny_training(), replace(data, train=data.test), OPTIONS)
    with pytest.raises(UsageError, match="no label joy; choose from happiness, sadness, neutral"):
        export_model(tiny_training(), data, replace(OPTIONS, labels={"a": "joy", "b": "sadness"}))
    with pytest.raises(UsageError, match="two or more different labels"):
        export_model(
            tiny_training(), data, replace(OPTIONS, labels={"a": "sadness", "b": "sadness"})
        )


def test_publishing_leaves_model_card_and_sums_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    publish_model(tiny_export().graph, "# first\n", folder / "b.onnx")
    publish_model(tiny_export().graph, "# second\n", folder / "a.onnx")
    assert sorted(path.name for path in folder.iterdir()) == [
        "SHA256SUMS", "a.md", "a.onnx", "b.md", "b.onnx",
    ]  # fmt: skip
    digest = tiny_export().digest
    assert (folder / "SHA256SUMS").read_text() == f"{digest}  a.onnx\n{digest}  b.onnx\n"
    assert (folder / "SHA256SUMS").read_text() == list_checksums(folder)
    assert (folder / "a.md").read_text() == "# second\n"


def test_a_file_that_breaks_the_contract_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    card = f"# tiny {tiny_export().digest}"
    publish_model(tiny_export().graph, card, path)
    bare = serialise_with_metadata(onnx.load_model_from_string(tiny_export().graph), {})
    with pytest.raises(ModelError, match="metadata"):
        publish_model(bare, "other card", path)
    assert path.read_bytes() == tiny_export().graph
    assert path.with_suffix(".md").read_text() == card
    assert len(list(tmp_path.iterdir())) == 3


def test_a_model_s_card_must_be_its_own(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    publish_model(tiny_export().graph, f"# tiny {tiny_export().digest}", path)
    assert read_card(load_model(path)).startswith("# tiny")
    path.with_suffix(".md").write_text("# of another file")
    with pytest.raises(InputError, match=r"tiny\.md is not the card of"):
        read_card(load_model(path))
    path.with_suffix(".md").unlink()
    with pytest.raises(InputError, match=r"tiny\.md is not the card of"):
        read_card(load_model(path))


@pytest.fixture(scope="module")
def rest() -> ExportedModel:
    options = replace(OPTIONS, rest=Abstain.NEITHER, risk=0.2)
    return export_model(wide_training(), wide_dataset(), options)


def test_the_rest_of_the_labels_together_answer_neither(
    rest: ExportedModel, tmp_path: Path
) -> None:
    publish_model(rest.graph, "card", tmp_path / "rest.onnx")
    spec = load_model(tmp_path / "rest.onnx").spec
    assert (spec.labels, spec.abstain) == (("happy", "sad"), ("neither",))
    pixels = wide_dataset().test.pixels
    logits = predict_logits(wide_training().network, pixels) / rest.calibration.temperature
    shares = torch.softmax(logits, dim=1).numpy()
    found = answers(rest.graph, pixels, 64)
    np.testing.assert_allclose(found[:, :2], shares[:, :2], atol=2e-3)
    np.testing.assert_allclose(found[:, 2], 1 - shares[:, :2].sum(axis=1), atol=2e-3)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    assert (found >= 0).all()
    assert spec.label_shares == {"happy": 0.5556, "sad": 0.4444}
    assert rest.test.labels == ("happy", "sad", "neither")


@pytest.mark.parametrize("weights", [WeightFormat.FLOAT16, WeightFormat.INT8])
def test_joined_classes_are_bit_identical_in_any_batch_and_run_on_a_gpu(
    weights: WeightFormat,
) -> None:
    options = replace(OPTIONS, rest=Abstain.NEITHER, weights=weights, risk=0.2)
    graph = export_model(wide_training(), wide_dataset(), options).graph
    noise = np.random.default_rng(1).integers(0, 256, (40, 24, 24, 1), dtype=np.uint8)
    pixels = np.concatenate([noise, wide_dataset().test.pixels])[:99]
    alone = answers(graph, pixels, 1)
    for batch in (2, 33, 64):
        np.testing.assert_array_equal(answers(graph, pixels, batch, threads=2), alone)
    proto = onnx.load_model_from_string(graph)
    quantization = {"QuantizeLinear", "DequantizeLinear"}
    assert {node.op_type for node in proto.graph.node} <= OPERATORS | quantization
    kernels = [t.data_type for t in proto.graph.initializer if len(t.dims) == 4]
    # The logits and the sums stay in float.
    if weights is WeightFormat.INT8:
        assert kernels.count(onnx.TensorProto.FLOAT) == 2


def test_abstain_classes_of_the_data_are_abstain_outputs() -> None:
    trained, data = abstaining_training()
    exported = export_model(trained, data, replace(OPTIONS, risk=0.2))
    spec = exported.spec
    assert (spec.labels, spec.abstain) == (("happy", "sad"), ("neither", "no_person"))
    assert set(spec.abstain_from) == {"neither", "no_person"}
    pixels = data.test.pixels
    logits = predict_logits(trained.network, pixels) / exported.calibration.temperature
    wanted = torch.softmax(logits, dim=1).numpy()
    np.testing.assert_allclose(answers(exported.graph, pixels, 64), wanted, atol=2e-3)
    assert spec.metrics["selective"]["labelled"] == 36
    assert set(spec.metrics["selective"]["kinds"]) == {"drawn", "turned"}


def test_thresholds_keep_the_risk_with_a_bound(rest: ExportedModel) -> None:
    chosen = rest.chosen
    assert chosen.bound <= 0.2
    assert chosen.bound == clopper_pearson_bound(chosen.wrong, chosen.answered)
    assert (rest.spec.unsure_below, rest.spec.abstain_from) == (
        chosen.unsure_below,
        chosen.abstain_from,
    )
    metrics = rest.spec.metrics["thresholds"]
    assert (metrics["risk"], metrics["bound"]) == (0.2, round(chosen.bound, 4))
    assert metrics["coverage"].keys() == {"happy", "sad"}


def test_a_risk_that_no_thresholds_keep_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    exported = export_model(tiny_training(), drawn_dataset(), replace(OPTIONS, risk=1e-4))
    assert exported.chosen.bound > 1e-4
    assert "no thresholds keep the risk of 0.01 %: the held-out samples" in caplog.text
    assert "or allow more with --risk (with make, EXPORT='--risk 0.1' allows 10 %)" in caplog.text
    for answered, wrong, said in (
        (20, 0, "only show that at most 13.9 % of the labels that count are wrong"),
        (1, 1, "do not exclude that all labels that count are wrong"),
    ):
        chosen = replace(exported.chosen, answered=answered, wrong=wrong, risk=0.05)
        assert f"the risk of 5 %: the held-out samples {said}." in describe_unkept_risk(chosen)
    assert "No thresholds keep this risk on these samples" in write_card(
        exported, tiny_training(), drawn_dataset()
    )


def test_a_model_whose_labels_never_count_is_not_said_to_be_wrong(
    caplog: pytest.LogCaptureFixture,
) -> None:
    trained = copy.deepcopy(tiny_training())
    for weight in trained.network.classifier.parameters():
        weight.data.zero_()
    assert export_model(trained, drawn_dataset(), OPTIONS).chosen.answered == 0
    assert "the held-out samples get no label that counts" in caplog.text


def test_thresholds_are_not_chosen_on_uncertain_labels() -> None:
    data = wide_dataset()
    doubt = np.where(np.arange(len(data.validation)) % 4 == 0, 0.5, 1).astype(np.float32)
    spoilt = replace(spoiled(data.validation), weights=doubt)
    half = replace(data, validation=spoilt)
    trusted = replace(data, validation=select_samples(spoilt, doubt == 1))
    found = []
    for changed in (half, trusted):
        trained = replace(wide_training(), fingerprint=changed.fingerprint)
        # At this risk every label counts, so the number is that of the samples chosen on.
        options = replace(OPTIONS, weights=WeightFormat.FLOAT32, risk=0.99)
        found.append(export_model(trained, changed, options).chosen.answered)
    assert found[0] == found[1]


def test_the_correction_for_rare_classes_is_in_the_graph() -> None:
    data = wide_dataset()
    few = replace(data.train, weights=np.where(data.train.targets == 1, 0.1, 1).astype(np.float32))
    rare = replace(data, train=few)
    trained = replace(wide_training(), fingerprint=rare.fingerprint)
    options = replace(OPTIONS, labels=None, prior_correction=0.5, weights=WeightFormat.FLOAT32)
    exported = export_model(trained, rare, options)
    logits = predict_logits(trained.network, data.test.pixels).numpy()
    shifted = logits - 0.5 * np.log(compute_class_shares(few))
    wanted = softmax(shifted.astype(np.float32), exported.calibration.temperature)
    np.testing.assert_allclose(answers(exported.graph, data.test.pixels, 64), wanted, atol=1e-4)
    plain = answers(
        export_model(trained, rare, replace(options, prior_correction=0.0)).graph,
        data.test.pixels,
        64,
    )
    found = answers(exported.graph, data.test.pixels, 64)
    assert (found.argmax(1) == 1).sum() >= (plain.argmax(1) == 1).sum()
    assert "0.5 times the logarithm" in write_card(exported, trained, rare)


def test_a_cross_validated_model_is_evaluated_with_the_choices_of_other_folds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained, data = abstaining_training()
    pool = data.get_split("all")
    chance = np.random.default_rng(1)
    held = OutOfFold(
        labels=data.labels,
        names=tuple(map(name_sample, pool.pixels)),
        targets=pool.targets,
        folds=np.arange(len(pool)) % 3,
        logits=(np.eye(4)[pool.targets] * 4 + chance.normal(0, 2, (len(pool), 4))).astype(
            np.float32
        ),
        recipe=trained.recipe,
    )
    crossed = replace(trained, held_out=held, config=replace(trained.config, learn_from="all"))
    exported = export_model(crossed, data, replace(OPTIONS, risk=0.2))
    found = exported.test.selective
    assert found is not None
    assert found.samples == exported.validation == len(pool)
    assert {row.kind: row.samples for row in found.kinds} == {"drawn": 180, "turned": 180}
    # The thresholds for a fold are chosen without its answers.
    seen: list[int] = []

    def spy(answers: Probabilities, targets: Targets, *rest: Any, **more: Any) -> ChosenThresholds:
        seen.append(len(targets))
        return choose_thresholds(answers, targets, *rest, **more)

    calibrated_on: list[int] = []

    def spy_on_fit(logits: Probabilities, targets: Targets, groups: Any = None) -> float:
        calibrated_on.append(len(targets))
        return fit_temperature(logits, targets, groups)

    monkeypatch.setattr("trainer.exporting.export.choose_thresholds", spy)
    monkeypatch.setattr("trainer.evaluation.calibration.fit_temperature", spy_on_fit)
    export_model(crossed, data, replace(OPTIONS, risk=0.2))
    others = [len(pool) - int((held.folds == fold).sum()) for fold in range(3)]
    assert sorted(seen) == sorted([len(pool), *others])
    assert sorted(calibrated_on) == sorted([len(pool), *others])


def test_a_cross_validated_model_may_join_its_other_labels() -> None:
    data = wide_dataset()
    pool = data.get_split("all")
    held = OutOfFold(
        labels=data.labels,
        names=tuple(map(name_sample, pool.pixels)),
        targets=pool.targets,
        folds=np.arange(len(pool)) % 2,
        logits=np.eye(4, dtype=np.float32)[pool.targets] * 5,
        recipe=wide_training().recipe,
    )
    crossed = replace(
        wide_training(), held_out=held, config=replace(wide_training().config, learn_from="all")
    )
    # The order of the labels is the model's, not the training's.
    turned = {"sad": "sadness", "happy": "happiness"}
    exported = export_model(
        crossed, data, replace(OPTIONS, labels=turned, rest=Abstain.NEITHER, risk=0.2)
    )
    assert exported.test.accuracy.value == 1
    assert exported.test.labels == ("sad", "happy", "neither")
    with pytest.raises(
        UsageError, match="without some of its labels; drop --labels, or add --rest"
    ):
        export_model(crossed, data, replace(OPTIONS, labels=turned))


def test_an_invalid_output_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"ends in \.onnx"):
        publish_model(tiny_export().graph, "card", tmp_path / "model.pt")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="can't be written"):
        publish_model(tiny_export().graph, "card", tmp_path / "file" / "model.onnx")


@pytest.mark.parametrize("text", ['{"face_model": "f", "bias": 0.1}', "[]", "[" * 100_000, "{"])
def test_a_fusion_of_another_release_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "fusion.json").write_text(text)
    with pytest.raises(InputError, match="not a fusion of this release"):
        _read_fusion(tmp_path / "fusion.json", tiny_training())


def test_a_fusion_of_another_training_is_refused(tmp_path: Path) -> None:
    path, fusion = tmp_path / "fusion.json", bright_fusion()
    own = tiny_training().recipe
    for recipe, differing in (
        (own, ""),
        (replace(own, data="0" * 64), "other data"),
        (replace(own, settings="0" * 64), "other settings"),
    ):
        path.write_text(json.dumps(json.loads(pack_fusion(fusion)) | {"recipe": asdict(recipe)}))
        if not differing:
            assert _read_fusion(path, tiny_training()) == fusion
            continue
        with pytest.raises(InputError, match=rf"fusion\.json belongs to .* {differing}"):
            _read_fusion(path, tiny_training())


def test_training_can_start_from_a_model_that_sums_classes(tmp_path: Path) -> None:
    options = replace(OPTIONS, rest=Abstain.NEITHER)
    exported = export_model(wide_training(), wide_dataset(), options)
    (tmp_path / "model.onnx").write_bytes(exported.graph)
    network = build_network(wide_training().config, 4, 1)
    initialise_network(network, str(tmp_path / "model.onnx"))
    pixels = wide_dataset().test.pixels
    network.eval()
    known = predict_logits(wide_training().network, pixels).argmax(1)
    assert (predict_logits(network, pixels).argmax(1) == known).float().mean() > 0.9
