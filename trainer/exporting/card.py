"""A model's card: what it does, how well, on what data, and what it must not be used for.

After Mitchell et al. 2019, "Model Cards for Model Reporting" (arXiv 1810.03993).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from batch.records import Region
from trainer.data import Dataset
from trainer.evaluate import Evaluation
from trainer.evaluation.bootstrap import Estimate
from trainer.export import Exported, judged_on
from trainer.training.checkpoint import Trained

_SAMPLES_OF = {
    "test": "the {:,} samples of the test part that people agreed on and that show one of the "
    "labels",
    "held-out": "{:,} reviewed samples that were held out",
    "cross-validation": "{:,} samples, each answered by a network of the same recipe that had "
    "learnt neither from it nor from a near duplicate",
}
NETWORKS = {
    "residual": "A residual network",
    "efficientnet-lite0": "An EfficientNet-Lite0, pretrained on ImageNet",
    "efficientnet-lite2": "An EfficientNet-Lite2, pretrained on ImageNet",
}
LOOKS_AT = {Region.FACE: "a face cut out of a photo", Region.IMAGE: "a whole photo"}
USE = """\
It is meant for sorting one's own photos by how people look in them. What it names is the
look of a face at one moment, as other people would name it; it does not know what a person
feels, wants or will do. Don't use it to judge, watch, rank or select people: not at work, at
school, in health care, at borders or by the police, and not to tell a person's health or
honesty.

How right it is differs between groups of people, ages, cultures, light and camera angles.
Its data say nothing on who is shown, so these differences were not measured. Measure it on
photos like your own before you rely on it."""


def card(exported: Exported, trained: Trained, data: Dataset) -> str:
    """Write the Markdown card of an exported model."""
    sections = (
        _opening(exported, data.warning),
        _facts(exported),
        _data(data, trained),
        _training(trained),
        results(exported.test, judged_on(trained)),
        _calibration(exported),
        f"## Use and misuse\n\n{USE}",
    )
    return "\n\n".join(sections) + "\n"


def _opening(exported: Exported, warning: str) -> str:
    spec = exported.spec
    # In front of everything, because who reads one sentence must have read this one.
    loud = f"> **Warning: {warning}**\n\n" if warning else ""
    return (
        f"# {spec.name}\n\n{loud}"
        f"Looks at {LOOKS_AT[spec.region]} and gives the probability of each of "
        f"{len(spec.labels)} labels: {', '.join(spec.labels)}."
    )


def _facts(exported: Exported) -> str:
    spec = exported.spec
    _, height, width, channels = spec.golden.inputs.shape
    colour = "grey" if channels == 1 else "RGB"
    return table(
        ("", ""),
        (
            ("Version", spec.version),
            ("Created", spec.created),
            ("Input", f"uint8 [N, {height}, {width}, {channels}], {colour}"),
            ("Looks", "twice, the second time in a mirror" if exported.mirrored else "once"),
            ("Face margin", f"{spec.margin:g} of the face's side on each side"),
            ("Output", f"float32 [N, {len(spec.labels)}], probabilities in the labels' order"),
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


def _data(data: Dataset, trained: Trained) -> str:
    rows = [
        (name, f"{len(part):,}", f"{int(part.certain.sum()):,}")
        for name, part in (
            ("train", data.train),
            ("validation", data.validation),
            ("test", data.test),
        )
    ]
    sizes = table(("Part", "Samples", "of which people agreed on"), rows)
    # A training from before near duplicates were left out is measured without them.
    more = (
        ""
        if data.fingerprint == trained.fingerprint
        else " The training saw near duplicates as well, which the table leaves out."
    )
    if data.beside is not None:
        more += (
            f" Beside them it learnt from {len(data.beside):,} photos whose labels are a face "
            f"model's sure answers."
        )
    if data.reviewed is not None:
        more += f" Beside them it learnt from {len(data.reviewed):,} answers that people reviewed."
    return (
        f"## Data\n\n{data.credit}\n\n{sizes}\n\n"
        f"Fingerprint of the pixels and labels of the training: `{trained.fingerprint}`.{more}"
    )


def _training(trained: Trained) -> str:
    settings = asdict(trained.config)
    augmentation = settings.pop("augmentation")
    settings.pop("threads")  # changes nothing of what is learnt
    rows = [(f"`{name}`", _value(value)) for name, value in settings.items()]
    rows += [(f"`augmentation.{name}`", _value(value)) for name, value in augmentation.items()]
    how = "its classifier fitted by logistic regression"
    if trained.history:
        how = (
            f"trained for {trained.history[-1].epoch} of {trained.config.epochs} epochs with "
            f"AdamW, a cosine schedule and averaged weights"
        )
    return (
        f"## Training\n\n{NETWORKS[trained.config.network]}, {how} on the labels "
        f"{', '.join(trained.labels)}.\n\n{table(('Setting', 'Value'), rows)}"
    )


def results(test: Evaluation, split: str) -> str:
    """Write a card's section of figures; ``split`` names what they come from."""
    figures = (
        ("Accuracy", _interval(test.accuracy)),
        ("Balanced accuracy", _interval(test.balanced_accuracy)),
        ("Macro F1", _interval(test.macro_f1)),
    )
    counts = [
        (label, *map(str, row), _interval(share))
        for label, row, share in zip(test.labels, test.confusion, test.recall, strict=True)
    ]
    return (
        f"## Results\n\nOn {_SAMPLES_OF[split].format(test.samples)}; 95 % bootstrap "
        f"intervals.\n\n"
        f"{table(('Figure', 'Value'), figures)}\n\n"
        f"Answers (columns) for each true label (rows):\n\n"
        f"{table(('', *test.labels, 'recall'), counts)}"
    )


def _calibration(exported: Exported) -> str:
    test = exported.test
    return (
        f"## Confidence\n\nThe logits are divided by a temperature of {exported.temperature:g}, "
        f"fitted on {exported.validation:,} samples that the network had not learnt from. "
        f"Without it the expected calibration error is {exported.uncalibrated:.1%}, with it "
        f"{_interval(test.calibration_error)}; the log loss is {test.log_loss:.4f} nats. Answers "
        f"with a confidence below {exported.spec.unsure_below:g} count as unsure: of the others, "
        f"{exported.sure_accuracy:.1%} are right on those samples."
    )


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.1%} ({estimate.low:.1%} to {estimate.high:.1%})"


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
