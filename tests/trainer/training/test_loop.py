from __future__ import annotations

import csv
import logging
import math
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from batch.errors import InputError, OutputError
from tests.support.trainer_data import (
    CONFIG,
    REPOSITORY,
    drawn_dataset,
    tiny_run,
    tiny_training,
    write_folders,
)
from trainer.datasets.dataset import Dataset, Framing, Split, select_samples
from trainer.datasets.labelled_files import load_folders
from trainer.evaluation.out_of_fold import write_out_of_fold
from trainer.exporting.export import ExportOptions, export_model
from trainer.exporting.model_card import write_card
from trainer.training.ancestors import read_ancestors
from trainer.training.augment import jitter_boxes
from trainer.training.checkpoint import CHECKPOINT_FILE, load_trained_network, read_progress
from trainer.training.config import Config, load_config
from trainer.training.cross_validation import cross_validate
from trainer.training.epoch_metrics import HISTORY_FILE
from trainer.training.loop import (
    _compute_class_weights,
    _symmetric_divergence,
    compute_learning_rate,
    limit_ema_decay,
    predict_logits,
    train,
)
from trainer.training.pretrained import build_network, initialise_network, read_init_widths
from trainer.training.validation import Validation, evaluate_logits

OPTIONS = ExportOptions(name="tiny", created="2026-01-02")
COMMAND = [sys.executable, "-m", "trainer", "train"]


def read_weights(run: Path) -> dict[str, torch.Tensor]:
    return load_trained_network(run).network.state_dict()


def evaluate_run(run: Path, data: Dataset) -> Validation:
    """Evaluate the weights that a run keeps on the validation split."""
    logits = predict_logits(load_trained_network(run).network, data.validation.pixels)
    return evaluate_logits(logits, data.validation, data.labels)


def assert_same_weights(one: Path, other: Path) -> None:
    for (name, a), b in zip(read_weights(one).items(), read_weights(other).values(), strict=True):
        assert torch.equal(a, b), name


def test_a_training_lowers_the_loss_and_records_its_metrics() -> None:
    run, trained = tiny_run(), tiny_training()
    first, last = trained.history[0], trained.history[-1]
    assert last.train_loss < first.train_loss
    measured = evaluate_run(run, drawn_dataset())
    assert (measured.loss, measured.accuracy) == pytest.approx(
        (last.validation_loss, last.validation_accuracy), abs=1e-6
    )
    assert measured.recall == last.recall
    with (run / HISTORY_FILE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[-1]["train_loss"]) == last.train_loss
    for label, recall in last.recall.items():
        assert float(rows[-1][f"recall_{label}"]) == recall
    for part in ("train", "validation"):
        assert list((run / "logs" / part).glob("events.out.tfevents.*"))
    assert not list(run.glob("*.partial"))


def test_a_checkpoint_has_everything_that_an_export_needs() -> None:
    trained, data = tiny_training(), drawn_dataset()
    assert trained.labels == data.labels
    assert trained.framing == data.framing
    assert trained.config == CONFIG
    assert trained.fingerprint == data.fingerprint


def test_a_checkpoint_without_framing_is_of_ferplus(tmp_path: Path) -> None:
    state = torch.load(tiny_run() / CHECKPOINT_FILE, weights_only=True)
    del state["framing"]
    torch.save(state, tmp_path / CHECKPOINT_FILE)
    assert load_trained_network(tmp_path).framing == Framing()


def test_a_resumed_training_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(Exception):
        pass

    def cut_after_two(*args: object) -> None:
        if (tmp_path / CHECKPOINT_FILE).exists() and len(
            load_trained_network(tmp_path).history
        ) == 2:
            raise Cut

    monkeypatch.setattr("trainer.training.loop._log_epoch", cut_after_two)
    with pytest.raises(Cut):
        train(drawn_dataset(), CONFIG, tmp_path)
    monkeypatch.undo()
    torch.manual_seed(99)
    history = train(drawn_dataset(), CONFIG, tmp_path)
    assert history == tiny_training().history
    assert_same_weights(tmp_path, tiny_run())


def test_the_probe_is_fitted_to_the_training_split_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[Split] = []
    monkeypatch.setattr(
        "trainer.training.loop.fit_probe", lambda _, samples, decay: fitted.append(samples)
    )
    data = drawn_dataset()
    train_split, validation, test = (
        replace(part, pixels=np.zeros((len(part), 32, 32, 3), np.uint8))
        for part in (data.train, data.validation, data.test)
    )
    framing = replace(data.framing, side=32, channels=3)
    data = replace(data, framing=framing, train=train_split, validation=validation, test=test)
    config = Config(network="efficientnet-lite0", probe=0.5, epochs=0, threads=1)
    train(data, config, tmp_path)
    assert [len(samples) for samples in fitted] == [len(data.train)]
    assert np.array_equal(fitted[0].votes, data.train.votes)


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    before = (tiny_run() / CHECKPOINT_FILE).stat().st_mtime_ns
    assert train(drawn_dataset(), CONFIG, tiny_run()) == tiny_training().history
    assert (tiny_run() / CHECKPOINT_FILE).stat().st_mtime_ns == before


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    train(drawn_dataset(), replace(CONFIG, seed=2), tmp_path)
    assert not torch.equal(
        read_weights(tmp_path)["classifier.weight"], read_weights(tiny_run())["classifier.weight"]
    )


def test_a_run_of_other_settings_is_not_overwritten() -> None:
    before = (tiny_run() / CHECKPOINT_FILE).read_bytes()
    with pytest.raises(OutputError, match="other data or settings; choose another --run"):
        train(drawn_dataset(), replace(CONFIG, epochs=5), tiny_run())
    assert (tiny_run() / CHECKPOINT_FILE).read_bytes() == before


def test_a_broken_or_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"checkpoint\.pt does not exist"):
        load_trained_network(tmp_path)
    (tmp_path / CHECKPOINT_FILE).write_bytes((tiny_run() / CHECKPOINT_FILE).read_bytes()[:5000])
    with pytest.raises(InputError, match="not a readable checkpoint"):
        load_trained_network(tmp_path)


def list_foreign_checkpoints(folder: Path) -> list[Path]:
    """Write files that are not checkpoints of this release."""
    whole = torch.load(tiny_run() / CHECKPOINT_FILE, weights_only=True)
    contents: list[object] = [
        [1, 2],
        {},
        {"ema": 3},
        whole | {"history": [whole["history"][0] | {"later": 1}], "identity": "[1, 2]"},
        whole | {"config": whole["config"] | {"later": 1}, "identity": "{"},
        whole | {"best": [1], "ema": {"features.1.weight": 7}, "history": 7},
    ]
    paths = []
    for n, content in enumerate([b"hello world\n", b"", b"\x80\x02K\x01", b"0", *contents]):
        paths.append(folder / str(n) / CHECKPOINT_FILE)
        paths[-1].parent.mkdir()
        if isinstance(content, bytes):
            paths[-1].write_bytes(content)
        else:
            torch.save(content, paths[-1])
    return paths


def test_a_foreign_checkpoint_is_named(tmp_path: Path) -> None:
    network = build_network(CONFIG, 3, 1)
    for path in list_foreign_checkpoints(tmp_path):
        with pytest.raises(InputError, match=r"checkpoint\.pt is not a readable checkpoint"):
            load_trained_network(path.parent)
        with pytest.raises(InputError, match=r"checkpoint\.pt is not a readable checkpoint"):
            read_progress(path.parent, drawn_dataset(), CONFIG)
    for path in list(tmp_path.glob("*/*.pt")):
        stored = path.read_bytes()
        with suppress(InputError):  # the weights of some are intact
            initialise_network(network, str(path))
        with suppress(InputError):
            read_init_widths(str(path))
        with suppress(InputError):
            read_ancestors(replace(CONFIG, init=str(path)), drawn_dataset())
        assert path.read_bytes() == stored


def test_learning_rate_warms_up_and_ends_near_zero() -> None:
    config = Config(learning_rate=1.0, warm_up=0.1)
    rates = [compute_learning_rate(config, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == 1.0
    assert rates[9] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[99] < 0.001
    assert rates[9:] == sorted(rates[9:], reverse=True)


def test_the_average_spans_few_steps_at_first_and_many_later() -> None:
    assert limit_ema_decay(0) == 0.1
    assert limit_ema_decay(10_000) > 0.999


def test_patience_stops_early_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    # The learning rate is too high, so the validation loss soon rises.
    config = replace(CONFIG, epochs=30, patience=1, learning_rate=0.05, ema=0.0)
    history = train(drawn_dataset(), config, tmp_path)
    losses = [epoch.validation_loss for epoch in history]
    best = losses.index(min(losses))
    assert len(history) == best + 1 + 1 < 30
    kept = evaluate_run(tmp_path, drawn_dataset())
    assert kept.loss == pytest.approx(losses[best], rel=1e-5)
    assert train(drawn_dataset(), config, tmp_path) == history


def test_the_best_epoch_is_kept_without_patience_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # The validation labels are turned round, so the training makes every answer worse.
    data = drawn_dataset()
    turned = replace(data.validation, votes=np.roll(data.validation.votes, 1, axis=1))
    data = replace(data, validation=turned)
    with caplog.at_level(logging.INFO, "trainer"):
        history = train(data, replace(CONFIG, epochs=8, ema=0.0), tmp_path)
    losses = [epoch.validation_loss for epoch in history]
    best = losses.index(min(losses)) + 1
    assert best < 8
    trained = load_trained_network(tmp_path)
    assert trained.epoch == best
    assert evaluate_run(tmp_path, data).loss == pytest.approx(min(losses), rel=1e-5)
    gain = losses[-1] - min(losses)
    assert f"epoch {best} is kept, its validation loss is the lowest: by {gain:.4f}" in caplog.text
    card = write_card(export_model(trained, data, OPTIONS), trained, data)
    assert f"those of epoch {best}, which had the lowest validation loss" in " ".join(card.split())


def test_a_training_without_a_finite_validation_loss_is_an_error(tmp_path: Path) -> None:
    config = replace(
        CONFIG, widths=(8,), batch_size=2, learning_rate=10, weight_decay=10, warm_up=0, epochs=2
    )
    for _ in range(2):
        with pytest.raises(InputError, match=r"the training diverged: no epoch .*; lower learning"):
            train(drawn_dataset(), config, tmp_path)


@pytest.mark.parametrize(("losses", "kept"), [([math.nan, 2, 3], 2), ([2, math.inf, math.nan], 1)])
def test_losses_that_are_not_finite_do_not_choose_the_epoch(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    losses: list[float],
    kept: int,
) -> None:
    left = iter(losses)

    def evaluate(_logits: torch.Tensor, part: Split, _labels: object) -> Validation:
        return Validation(np.full(len(part), next(left), np.float32), 0.5, {})

    monkeypatch.setattr("trainer.training.loop.evaluate_logits", evaluate)
    with caplog.at_level(logging.INFO, "trainer"):
        train(drawn_dataset(), replace(CONFIG, epochs=3), tmp_path)
    assert load_trained_network(tmp_path).epoch == kept
    assert f"epoch {kept} is kept" in caplog.text
    assert "nan than" not in caplog.text


def test_a_fold_and_a_training_on_all_samples_keep_the_last_epoch(tmp_path: Path) -> None:
    data = drawn_dataset()
    turned = replace(data.validation, votes=np.roll(data.validation.votes, 1, axis=1))
    config = replace(CONFIG, ema=0.0)
    train(replace(data, validation=turned), config, tmp_path, is_fold=True)
    assert load_trained_network(tmp_path).epoch == CONFIG.epochs


def test_the_log_has_the_time_left_and_the_kept_epoch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = drawn_dataset()
    with caplog.at_level(logging.INFO, "trainer"):
        train(data, replace(CONFIG, epochs=3), tmp_path)
    epochs = [message for message in caplog.messages if message.startswith("epoch ")]
    assert epochs[0].startswith("epoch 1/3: train loss ")
    assert [" left" in message for message in epochs] == [True, True, False, False]
    assert " is kept, its validation loss is the lowest" in epochs[-1]


def test_balanced_raises_the_weight_of_a_rare_class(tmp_path: Path) -> None:
    data = drawn_dataset()
    rare = data.train.targets == 1
    rare[np.flatnonzero(rare)[:4]] = False
    few = replace(data, train=select_samples(data.train, ~rare))
    runs = {balanced: tmp_path / str(balanced) for balanced in (False, True)}
    for balanced, run in runs.items():
        train(few, replace(CONFIG, balanced=balanced), run, is_fold=True)  # keeps the last epoch
    found = {
        balanced: (
            predict_logits(load_trained_network(run).network, data.test.pixels).argmax(1) == 1
        ).sum()
        for balanced, run in runs.items()
    }
    assert found[True] > found[False]


def test_the_weight_of_a_sample_changes_the_training(tmp_path: Path) -> None:
    data = drawn_dataset()
    sad = data.train.targets == 1
    counts: dict[float, int] = {}
    for weight in (0.02, 1.0, 50.0):
        weights = np.where(sad, weight, 1).astype(np.float32)
        run = tmp_path / str(weight)
        weighted = replace(data, train=replace(data.train, weights=weights))
        train(weighted, CONFIG, run, is_fold=True)  # keeps the last epoch
        answers = predict_logits(load_trained_network(run).network, data.test.pixels).argmax(1)
        counts[weight] = int((answers == 1).sum())
    assert counts[0.02] < counts[1.0] < counts[50.0]


def test_only_relative_weights_matter(tmp_path: Path) -> None:
    data = drawn_dataset()
    heavy = replace(data.train, weights=np.full(len(data.train), 4, np.float32))
    history = train(replace(data, train=heavy), CONFIG, tmp_path)
    assert history == tiny_training().history
    assert_same_weights(tmp_path, tiny_run())


def test_the_divergence_of_two_answers_is_symmetric_and_0_for_the_same() -> None:
    one, other = torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 1.0], [3.0, 3.0]])
    found = _symmetric_divergence(one, other)
    assert torch.equal(found, _symmetric_divergence(other, one))
    p, q = one.softmax(1), other.softmax(1)
    wanted = ((p * (p / q).log()).sum(1) + (q * (q / p).log()).sum(1)) / 2
    assert torch.allclose(found, wanted, atol=1e-6)
    assert found[1].item() == pytest.approx(0, abs=1e-6)


def test_consistency_makes_predictions_depend_less_on_the_box(tmp_path: Path) -> None:
    data = drawn_dataset()
    pixels = torch.from_numpy(data.test.pixels).permute(0, 3, 1, 2).float()
    moved = jitter_boxes(pixels, 0.2, torch.Generator().manual_seed(9))
    boxed = moved.round().byte().permute(0, 2, 3, 1).numpy()
    change = {}
    for consistency in (0.0, 20.0):
        config = replace(CONFIG, epochs=8, box_jitter=0.2, consistency=consistency)
        train(data, config, tmp_path / str(consistency), is_fold=True)
        network = load_trained_network(tmp_path / str(consistency)).network
        answers = [predict_logits(network, p) for p in (data.test.pixels, boxed)]
        change[consistency] = float(_symmetric_divergence(*answers).mean())
    assert change[20.0] < change[0.0] / 2


def test_a_training_with_jitter_has_losses_of_the_same_scale(tmp_path: Path) -> None:
    config = replace(CONFIG, box_jitter=1e-9, consistency=1.0)
    history = train(drawn_dataset(), config, tmp_path)
    # Both boxes of a pair are the same here, so the divergence is 0.
    assert history[0].train_loss == pytest.approx(tiny_training().history[0].train_loss, rel=0.2)
    assert 0 < history[-1].train_accuracy <= 1


def test_a_training_on_all_splits_needs_a_cross_validation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(CONFIG, epochs=1, learn_from="all")
    caplog.set_level("INFO")
    train(drawn_dataset(), config, tmp_path)
    assert "the validation samples are trained on too" in caplog.text
    with pytest.raises(InputError, match="trainer crossvalidate --run"):
        load_trained_network(tmp_path)
    answers = cross_validate(drawn_dataset(), config, tmp_path, folds=2, seed=1)
    held_out = load_trained_network(tmp_path).held_out
    assert held_out is not None
    assert held_out.names == answers.names
    assert np.array_equal(held_out.targets, answers.targets)


def test_a_cross_validation_of_other_data_or_settings_is_refused(tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=1, learn_from="all")
    train(drawn_dataset(), config, tmp_path / "run")
    path = tmp_path / "run" / "out-of-fold.csv"
    fewer = replace(drawn_dataset(), test=select_samples(drawn_dataset().test, np.arange(20)))
    for data, settings, differing in (
        (fewer, config, "other data"),
        (drawn_dataset(), replace(config, learning_rate=0.02), "other settings"),
    ):
        answers = cross_validate(data, settings, tmp_path / differing, folds=2, seed=1)
        write_out_of_fold(path, answers)
        with pytest.raises(InputError, match=rf"out-of-fold\.csv belongs to .* {differing}"):
            load_trained_network(tmp_path / "run")
    # The threads change nothing, and a cross-validation always learns from folds.
    same = replace(config, threads=2, learn_from="train")
    write_out_of_fold(path, cross_validate(drawn_dataset(), same, tmp_path / "same", 2, 1))
    assert load_trained_network(tmp_path / "run").held_out
    # A file of an earlier release has no recipe.
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(InputError, match="does not say of which data and settings"):
        load_trained_network(tmp_path / "run")


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    photos = write_folders(tmp_path / "photos", 60)
    settings = tmp_path / "settings.toml"
    settings.write_text("widths = [4, 8]\nbatch_size = 8\nthreads = 1\nepochs = 12\n")
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    command = [*COMMAND, "--data", str(photos), "--config", str(settings), "--run", str(killed)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (killed / HISTORY_FILE).exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = len(load_trained_network(killed).history)
    assert 1 <= done < 12
    data, config = load_folders(photos, Framing()), load_config(settings)
    train(data, config, killed)
    train(data, config, straight)
    assert load_trained_network(killed).history == load_trained_network(straight).history
    assert_same_weights(killed, straight)


def take_first(count: int, side: int) -> Dataset:
    """Make a data set of the first training samples of ``drawn_dataset``, cropped to a side."""
    data = drawn_dataset()
    train_split, validation, test = (
        replace(part, pixels=part.pixels[:, :side, :side])
        for part in (data.train, data.validation, data.test)
    )
    return replace(
        data,
        framing=replace(data.framing, side=side),
        train=select_samples(train_split, np.arange(count)),
        validation=validation,
        test=test,
    )


def test_a_single_last_sample_joins_the_batch_before(tmp_path: Path) -> None:
    # The features of 16 pixels have one place, so a batch of one sample has no variance.
    config = replace(CONFIG, widths=(4, 8, 8, 8), epochs=1)
    for count in (33, 65):
        (epoch,) = train(take_first(count, 16), config, tmp_path / str(count))
        assert math.isfinite(epoch.train_loss)
    with pytest.raises(InputError, match="drawn has 1 sample to train on; add photos"):
        train(take_first(1, 16), config, tmp_path / "1")


def test_a_class_without_samples_has_no_weight(tmp_path: Path) -> None:
    data = drawn_dataset()
    two = replace(data, train=select_samples(data.train, data.train.targets < 2))
    config = replace(CONFIG, balanced=True, label_smoothing=0.1)
    history = train(two, config, tmp_path)
    assert max(epoch.train_loss for epoch in history) < 3
    assert _compute_class_weights(two.train, 0.0).tolist() == pytest.approx([2 / 3, 2 / 3, 0])
    smoothed = _compute_class_weights(two.train, 0.1).tolist()
    assert smoothed[0] * (0.45 + 0.1 / 3) == pytest.approx(smoothed[2] * 0.1 / 3)


def test_a_checkpoint_that_can_not_be_written_names_the_cause(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"checkpoint\.pt can't be written .*File too large"):
            train(drawn_dataset(), CONFIG, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.glob("checkpoint*"))
    assert train(drawn_dataset(), replace(CONFIG, epochs=1), tmp_path)
