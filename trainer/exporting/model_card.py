"""A model's card: what it does, how well, on what data, and what it must not be used for.

After Mitchell et al. 2019, "Model Cards for Model Reporting" (arXiv 1810.03993).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from batch.records import Abstain, Region
from trainer.datasets.dataset import Dataset
from trainer.evaluation.calibration import PRIOR_SPREAD
from trainer.evaluation.evaluate import Evaluation
from trainer.evaluation.metrics import Estimate
from trainer.evaluation.selective import SelectiveMetrics
from trainer.evaluation.tables import build_kind_rows
from trainer.exporting.export import ExportedModel, name_figures_source
from trainer.training.checkpoint import TrainedNetwork

_SAMPLES_OF = {
    "test": "the {:,} samples of the test part that people agreed on and that show one of the "
    "labels",
    "held-out": "{:,} reviewed samples that were held out",
    "cross-validation": "{:,} samples, each answered by a network of the same recipe that had "
    "learnt neither from it nor from a near duplicate",
}
NETWORK_TEXT = {
    "residual": "A residual network",
    "efficientnet-lite0": "An EfficientNet-Lite0, pretrained on ImageNet",
    "efficientnet-lite2": "An EfficientNet-Lite2, pretrained on ImageNet",
}
ABSTAIN_TEXT = {
    Abstain.NEITHER: "The output `neither` is for a face or person that shows none of them.",
    Abstain.NO_PERSON: "The output `no_person` is for a picture that shows nobody.",
}
REGION_TEXT = {Region.FACE: "a face cut out of a photo", Region.IMAGE: "a whole photo"}
USE_HEADING = "Use and misuse"
USE_TEXT = """\
It is meant for sorting one's own photos by how people look in them. What it names is the
look of a face at one moment, as other people would name it; it does not know what a person
feels, wants or will do. Don't use it to judge, watch, rank or select people: not at work, at
school, in health care, at borders or by the police, and not to tell a person's health or
honesty.

How right it is differs between groups of people, ages, cultures, light and camera angles.
Its data say nothing on who is shown, so these differences were not measured. Measure it on
photos like your own before you rely on it."""


def card(exported: ExportedModel, trained: TrainedNetwork, data: Dataset) -> str:
    """Write the Markdown card of an exported model."""
    sections = (
        _opening(exported, data.warning),
        _facts(exported),
        _data(data, trained),
        _training(trained),
        write_results(exported.test, name_figures_source(trained)),
        _calibration(exported),
        _thresholds(exported),
        f"## {USE_HEADING}\n\n{USE_TEXT}",
    )
    return "\n\n".join(sections) + "\n"


def _opening(exported: ExportedModel, warning: str) -> str:
    spec = exported.spec
    # In front of everything, because who reads one sentence must have read this one.
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
            ("Looks", "twice, the second time in a mirror" if exported.mirrored else "once"),
            ("Face margin", f"{spec.margin:g} of the face's side on each side"),
            (
                "Output",
                f"float32 [N, {len(spec.outputs)}], probabilities of {', '.join(spec.outputs)}",
            ),
            ("Size", f"{len(exported.graph):,} bytes, weights as {exported.weights}"),
            ("SHA-256", f"`{exported.digest}`"),
            (
                "Speed",
                f"{exported.speed.milliseconds:.2f} ms a picture, one at a time on one thread of "
                f"{exported.speed.processor}",
            ),
            (
                "PyTorch against ONNX Runtime",
                f"at most {exported.difference:.1e} apart, with float weights",
            ),
        ),
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
    sizes = markdown_table(("Part", "Samples", "of which people agreed on"), rows)
    # A training from before near duplicates were left out is measured without them.
    more = (
        ""
        if data.fingerprint == trained.fingerprint
        else " The training saw near duplicates as well, which the table leaves out."
    )
    if data.pseudo_labelled is not None:
        more += (
            f" Beside them it learnt from {len(data.pseudo_labelled):,} photos whose labels are a face "
            f"model's sure answers."
        )
    if data.reviewed is not None:
        more += f" Beside them it learnt from {len(data.reviewed):,} answers that people reviewed."
    return (
        f"## Data\n\n{data.credit}\n\n{sizes}\n\n"
        f"Fingerprint of the pixels and labels of the training: `{trained.fingerprint}`.{more}"
    )


def _training(trained: TrainedNetwork) -> str:
    settings = asdict(trained.config)
    augmentation = settings.pop("augmentation")
    settings.pop("threads")  # changes nothing of what is learnt
    rows = [(f"`{name}`", _setting_text(value)) for name, value in settings.items()]
    rows += [
        (f"`augmentation.{name}`", _setting_text(value)) for name, value in augmentation.items()
    ]
    how = "its classifier fitted by logistic regression"
    if trained.history:
        how = (
            f"trained for {trained.history[-1].epoch} of {trained.config.epochs} epochs with "
            f"AdamW, a cosine schedule and averaged weights"
        )
    return (
        f"## Training\n\n{NETWORK_TEXT[trained.config.network]}, {how} on the labels "
        f"{', '.join(trained.labels)}.\n\n{markdown_table(('Setting', 'Value'), rows)}"
    )


def write_results(test: Evaluation, split: str) -> str:
    """Write a card's section of figures; ``split`` names what they come from."""
    figures = (
        ("Accuracy", _interval_text(test.accuracy)),
        ("Balanced accuracy", _interval_text(test.balanced_accuracy)),
        ("Macro F1", _interval_text(test.macro_f1)),
    )
    counts = [
        (label, *map(str, row), _interval_text(share))
        for label, row, share in zip(test.labels, test.confusion, test.recall, strict=True)
    ]
    return (
        f"## Results\n\nOn {_SAMPLES_OF[split].format(test.samples)}; 95 % bootstrap "
        f"intervals.\n\n"
        f"{markdown_table(('Figure', 'Value'), figures)}\n\n"
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
    return (
        f"## Confidence\n\n{corrected}The logits are divided by a temperature of "
        f"{calibration.temperature:g}, fitted on {exported.validation:,} samples that the network "
        f"had not learnt from, with a normal prior on its logarithm (mean 0, standard deviation "
        f"{PRIOR_SPREAD:g}). Without it the expected calibration error is "
        f"{exported.uncalibrated:.1%}, with it {_interval_text(test.calibration_error)}; the log loss "
        f"is {test.log_loss:.4f} nats."
    )


def _thresholds(exported: ExportedModel) -> str:
    spec, chosen = exported.spec, exported.chosen
    reasons = "".join(
        f" Where `{name}` has {least:g} or more, that is the status and there is no label."
        for name, least in spec.abstain_from.items()
    )
    kept = (
        "That keeps the risk"
        if chosen.bound <= chosen.risk
        else "**No thresholds keep the risk there**"
    )
    text = (
        f"## When a label counts\n\nLabels with a probability below {spec.unsure_below:g} count "
        f"as unsure.{reasons} The thresholds were chosen so that of the labels that count at most "
        f"{chosen.risk:.1%} are wrong, and as many as possible count. On the "
        f"{exported.validation:,} samples that they were chosen on {chosen.wrong:,} of "
        f"{chosen.answered:,} are wrong, at most {chosen.bound:.1%} with 95 % confidence (Clopper "
        f"and Pearson). {kept}."
    )
    found = exported.test.selective
    return text if found is None else f"{text}\n\n{write_selective_section(found)}"


def write_selective_section(found: SelectiveMetrics) -> str:
    """Write what a model's decisions come to, with the tables by outcome and by kind."""
    figures = [
        (f"Right, if all {found.labelled:,} with a label get one", _interval_text(found.always)),
        ("Right, of the labels that count", _interval_text(found.accuracy)),
        *(
            (f"{label}: gets its label, and it counts", _interval_text(estimate))
            for label, estimate in zip(found.labels, found.coverage, strict=True)
        ),
        *(
            (f"{name}: gets a label that counts", _interval_text(estimate))
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
        f"On the samples of the results:\n\n{markdown_table(('Figure', 'Value'), figures)}\n\n"
        f"Outcomes (columns) for each true class (rows):\n\n"
        f"{markdown_table(('', *found.outcomes), counts)}\n\n"
        f"By kind of picture; `ok` have a label that counts, `right` of these are right, and "
        f"`always` is the share of right labels if all get one:\n\n{markdown_table(head, kinds)}"
    )


def _interval_text(estimate: Estimate) -> str:
    return f"{estimate.value:.1%} ({estimate.low:.1%} to {estimate.high:.1%})"


def _setting_text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in cells] for cells in lines)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in escaped)
