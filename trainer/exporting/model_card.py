"""Writes model cards: purpose, data, training, metrics and intended use of an exported model.

After Mitchell et al. 2019, "Model Cards for Model Reporting" (arXiv 1810.03993).
"""

from __future__ import annotations

import math
from dataclasses import asdict

from batch.records import Abstain
from trainer.datasets.dataset import Dataset
from trainer.evaluation.calibration import PRIOR_SPREAD
from trainer.evaluation.calibration_error import MIN_CALIBRATION_SAMPLES
from trainer.evaluation.corruptions import CorruptionMetrics
from trainer.evaluation.evaluate import Evaluation
from trainer.evaluation.selective import SelectiveMetrics
from trainer.evaluation.tables import (
    build_corruption_rows,
    build_kind_rows,
    describe_corrupted,
    describe_groups,
    describe_missing,
    format_percent,
)
from trainer.exporting.answer_changes import AnswerChanges
from trainer.exporting.card_metadata import add_metadata, make_metadata
from trainer.exporting.card_text import (
    ABSTAIN_TEXT,
    REGION_TEXT,
    USE_HEADING,
    USE_TEXT,
    markdown_table,
)
from trainer.exporting.export import ExportedModel, name_metrics_source
from trainer.training.checkpoint import TrainedNetwork

_SAMPLES_OF = {
    "test": "the {:,} test samples with an agreed class among the labels",
    "held-out": "{:,} held-out reviewed samples",
    "cross-validation": "{:,} samples, each answered by a network that was trained with the same "
    "settings, but not on the sample or a near duplicate (cross-validation)",
}
NETWORK_TEXT = {
    "residual": "A residual network",
    "efficientnet-lite0": "An EfficientNet-Lite0, pretrained on ImageNet",
    "efficientnet-lite2": "An EfficientNet-Lite2, pretrained on ImageNet",
}


def write_card(
    exported: ExportedModel, trained: TrainedNetwork, data: Dataset, license_id: str | None = None
) -> str:
    """Write the Markdown card of an exported model, with metadata for the Hugging Face hub."""
    sections = (
        _opening(exported, data.warning),
        _facts(exported),
        _data(data, trained),
        _training(trained),
        write_results(exported.test, name_metrics_source(trained)),
        _calibration(exported),
        _thresholds(exported),
        _corruptions(exported.corrupted),
        f"## {USE_HEADING}\n\n{USE_TEXT}",
    )
    return add_metadata("\n\n".join(sections) + "\n", make_metadata(exported.spec, license_id))


def _opening(exported: ExportedModel, warning: str) -> str:
    spec = exported.spec
    # At the top, where it is not missed.
    loud = f"> **Warning: {warning}**\n\n" if warning else ""
    reasons = "".join(f" {ABSTAIN_TEXT[Abstain(name)]}" for name in spec.abstain)
    return (
        f"# {spec.name}\n\n{loud}"
        f"Looks at {REGION_TEXT[spec.region]} and gives the probability of each of "
        f"{len(spec.labels)} labels: {', '.join(spec.labels)}.{reasons}"
    )


def _facts(exported: ExportedModel) -> str:
    spec = exported.spec
    _, height, width, channels = spec.golden.inputs.shape
    colour = "grey" if channels == 1 else "RGB"
    return markdown_table(
        ("", ""),
        (
            ("Version", spec.version),
            ("Created", spec.created),
            ("Input", f"uint8 [N, {height}, {width}, {channels}], {colour}"),
            ("Passes", "2, the second on the mirrored picture" if exported.mirrored else "1"),
            ("Face margin", f"{spec.margin:g} of the face's side on each side"),
            (
                "Output",
                f"float32 [N, {len(spec.outputs)}], probabilities of {', '.join(spec.outputs)}",
            ),
            ("Size", f"{len(exported.graph):,} bytes, weights as {exported.weights}"),
            ("SHA-256", f"`{exported.digest}`"),
            (
                "Speed",
                f"{exported.speed.milliseconds:.2f} ms per picture, batch size 1, one thread of "
                f"{exported.speed.processor}",
            ),
            (
                "Largest difference from PyTorch",
                f"{exported.difference:.1e}, before the weights are stored as {exported.weights}",
            ),
            (f"Effect of {exported.weights}", _describe_answer_changes(exported.answer_changes)),
        ),
    )


def _describe_answer_changes(found: AnswerChanges) -> str:
    """Describe what storing the weights changes, on the validation samples."""
    return (
        f"another answer to {found.changed:,} of {found.samples:,} validation samples (at most "
        f"{found.changed_bound:.1%} with 95 % confidence); a probability changes by "
        f"{found.mean:.2g} on average, {found.high:.2g} in the 99th percentile, "
        f"{found.largest:.2g} at most"
    )


def _data(data: Dataset, trained: TrainedNetwork) -> str:
    rows = [
        (name, f"{len(part):,}", f"{int(part.certain.sum()):,}")
        for name, part in (
            ("train", data.train),
            ("validation", data.validation),
            ("test", data.test),
        )
    ]
    sizes = markdown_table(("Part", "Samples", "With an agreed class"), rows)
    # A run of an earlier release trained on near duplicates too; they are not evaluated.
    more = (
        ""
        if data.fingerprint == trained.fingerprint
        else " The training also used near duplicates, which the table does not count."
    )
    if data.pseudo_labelled is not None:
        more += (
            f" The training also used {len(data.pseudo_labelled):,} photos with pseudo-labels, the "
            f"sure answers of a face model."
        )
    if data.reviewed is not None:
        more += f" The training also used {len(data.reviewed):,} reviewed answers."
    return (
        f"## Data\n\n{data.credit}\n\n{sizes}\n\n"
        f"Fingerprint of the pixels and labels of the training: `{trained.fingerprint}`.{more}"
    )


def _training(trained: TrainedNetwork) -> str:
    settings = asdict(trained.config)
    augmentation = settings.pop("augmentation")
    settings.pop("threads")  # has no influence on the result
    rows = [(f"`{name}`", _setting_text(value)) for name, value in settings.items()]
    rows += [
        (f"`augmentation.{name}`", _setting_text(value)) for name, value in augmentation.items()
    ]
    how = "its classifier fitted by logistic regression"
    if trained.epoch:
        last = trained.history[-1].epoch
        how = (
            f"trained for {last} of {trained.config.epochs} epochs with "
            f"AdamW, a cosine schedule and averaged weights"
        )
        if trained.epoch < last:
            how += f", those of epoch {trained.epoch}, which had the lowest validation loss,"
    return (
        f"## Training\n\n{NETWORK_TEXT[trained.config.network]}, {how} on the labels "
        f"{', '.join(trained.labels)}.\n\n{markdown_table(('Setting', 'Value'), rows)}"
    )


def write_results(test: Evaluation, split: str) -> str:
    """Write the section of metrics; ``split`` names the samples that they come from."""
    figures = (
        ("Accuracy", format_percent(test.accuracy)),
        ("Balanced accuracy", format_percent(test.balanced_accuracy)),
        ("Macro F1", format_percent(test.macro_f1)),
    )
    counts = [
        (label, *map(str, row), format_percent(share))
        for label, row, share in zip(test.labels, test.confusion, test.recall, strict=True)
    ]
    missing = [
        label for label, row in zip(test.labels, test.confusion, strict=True) if not any(row)
    ]
    groups = (
        f" {describe_groups(test.samples, test.independent)}"
        if test.independent < test.samples
        else ""
    )
    note = f"There is {describe_missing(missing)}\n\n" if missing else ""
    return (
        f"## Results\n\nOn {_SAMPLES_OF[split].format(test.samples)}; 95 % "
        f"intervals.{groups}\n\n"
        f"{markdown_table(('Metric', 'Value'), figures)}\n\n{note}"
        f"Answers (columns) for each true label (rows):\n\n"
        f"{markdown_table(('', *test.labels, 'recall'), counts)}"
    )


def _calibration(exported: ExportedModel) -> str:
    test, calibration = exported.test, exported.calibration
    corrected = ""
    if calibration.prior_correction:
        corrected = (
            f"From each logit {calibration.prior_correction:g} times the logarithm of the class's "
            f"share in training is subtracted, so that rare classes are found more often. "
        )
    measured = (
        f"Without it the expected calibration error is {format_percent(exported.uncalibrated)}, "
        f"with it {format_percent(test.calibration_error)}, on the {test.samples:,} samples of the "
        f"results and without the bias of the plain estimate"
    )
    if math.isnan(test.calibration_error.value):
        measured = (
            f"The expected calibration error is not measured: the results have fewer than "
            f"{MIN_CALIBRATION_SAMPLES} samples"
        )
    return (
        f"## Confidence\n\n{corrected}The logits are divided by a temperature of "
        f"{calibration.temperature:g}, fitted on {exported.validation:,} held-out samples with a "
        f"normal prior on its logarithm (mean 0, standard deviation {PRIOR_SPREAD:g}). "
        f"{measured}; the log loss is {test.log_loss:.4f} nats."
    )


def _thresholds(exported: ExportedModel) -> str:
    spec, chosen = exported.spec, exported.chosen
    reasons = "".join(
        f" If `{name}` has {least:g} or more, it is the status, and there is no label."
        for name, least in spec.abstain_from.items()
    )
    kept = (
        "" if chosen.bound <= chosen.risk else " **No thresholds keep this risk on these samples.**"
    )
    text = (
        f"## When a label counts\n\nA label with a probability below {spec.unsure_below:g} is "
        f"unsure.{reasons} The thresholds were chosen so that at most {chosen.risk:.1%} of the "
        f"labels that count are wrong, and as many as possible count. On the "
        f"{exported.validation:,} samples used for this choice, {chosen.wrong:,} of "
        f"{chosen.answered:,} are wrong, at most {chosen.bound:.1%} with 95 % confidence (Clopper "
        f"and Pearson; because of the choice, this bound is a little too low).{kept}"
    )
    found = exported.test.selective
    return text if found is None else f"{text}\n\n{write_selective_section(found)}"


def write_selective_section(found: SelectiveMetrics) -> str:
    """Write the metrics of a model's decisions, with tables by outcome and by kind."""
    figures = [
        (f"Accuracy, if all {found.labelled:,} with a label get one", format_percent(found.always)),
        ("Accuracy of the labels that count", format_percent(found.accuracy)),
        *(
            (f"Coverage of {label}", format_percent(estimate))
            for label, estimate in zip(found.labels, found.coverage, strict=True)
        ),
        *(
            (f"{name} with a label that counts", format_percent(estimate))
            for name, estimate in zip(found.abstain, found.answered, strict=True)
            if not math.isnan(estimate.value)
        ),
        (
            "AUGRC (Traub et al. 2024)",
            f"{found.augrc.value:.4f} ({found.augrc.low:.4f} to {found.augrc.high:.4f})",
        ),
    ]
    counts = [
        (name, *map(str, row))
        for name, row in zip((*found.labels, *found.abstain), found.confusion, strict=True)
    ]
    head, kinds = build_kind_rows(found)
    return (
        f"On the samples of the results:\n\n{markdown_table(('Metric', 'Value'), figures)}\n\n"
        f"Outcomes (columns) for each true class (rows):\n\n"
        f"{markdown_table(('', *found.outcomes), counts)}\n\n"
        f"By kind of picture: `ok` is the number of labels that count, `right` of these are right, "
        f"and `always` is the accuracy if every picture gets a label:\n\n"
        f"{markdown_table(head, kinds)}"
    )


def _corruptions(found: CorruptionMetrics | None) -> str:
    if found is None:
        return (
            "## Corrupted photos\n\nNot measured: the network was trained on all samples, so none "
            "is held out."
        )
    head, rows = build_corruption_rows(found)
    return (
        f"## Corrupted photos\n\n{describe_corrupted(found)} `ok` is the share of samples that "
        f"get a label that counts.\n\n{markdown_table(head, rows)}"
    )


def _setting_text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
