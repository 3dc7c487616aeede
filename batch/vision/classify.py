"""Runs the model over batches of crops."""

from __future__ import annotations

import numpy as np

from batch.errors import BatchLabelError, ModelError
from batch.inference.providers import describe_ort_error
from batch.inference.session import open_session
from batch.models.model import GOLDEN_TOLERANCE, Model
from batch.options import Device, Provider
from batch.records import Pixels, Probabilities


class Classifier:
    """A model on one place, proved to answer its golden samples rightly.

    Raises:
        ProviderError: the model does not run on the provider.
        ModelError: it runs, but its golden samples come out wrong.
    """

    def __init__(self, model: Model, place: Device | Provider, batch_size: int) -> None:
        self._outputs = len(model.spec.outputs)
        self._path = model.path
        self._batch_size = batch_size
        warm_up = np.zeros((1, model.height, model.width, model.channels), dtype=np.uint8)
        self._session = open_session(model.graph, place, warm_up, batch=batch_size)
        self._check_golden(model)

    def classify(self, crops: Pixels) -> Probabilities:
        """Give the probability of each output for each crop.

        Shapes: uint8 [n, H, W, C] in, float32 [n, K + A] out.

        Raises:
            ModelError: the model does not run on so many.
        """
        outputs = [
            self._run_batch(crops[at : at + self._batch_size])
            for at in range(0, len(crops), self._batch_size)
        ]
        return np.concatenate(outputs) if outputs else np.empty((0, self._outputs), np.float32)

    def _run_batch(self, batch: Pixels) -> Probabilities:
        try:
            answers: Probabilities = self._session.run(batch)[0]
        except BatchLabelError:  # such as a device that has failed
            raise
        except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
            raise ModelError(
                f"model {self._path} fails on {len(batch)} pictures at a time ({describe_ort_error(error)})",
                "try a smaller --batch-size; if that fails too, another model",
            ) from error
        return answers

    def _check_golden(self, model: Model) -> None:
        golden = model.spec.golden
        outputs = self.classify(golden.inputs)
        right = outputs.shape == golden.outputs.shape
        # Not `worst > tolerance`, which is False where an answer is not a number.
        if right and np.abs(outputs - golden.outputs).max() <= GOLDEN_TOLERANCE:
            return
        raise ModelError(
            f"model {model.path} answers its own golden samples wrongly on "
            f"{self._session.provider.value}",
            "try --provider cpu; if that fails too, install or export the model again",
        )
