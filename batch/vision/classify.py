"""Classification: a model's probabilities for crops or whole photos."""

from __future__ import annotations

import numpy as np

from batch.errors import BatchLabelError, ModelError
from batch.inference.providers import describe_ort_error
from batch.inference.session import open_session
from batch.models.model import GOLDEN_TOLERANCE, Model
from batch.options import Device, Provider
from batch.records import Pixels, Probabilities


class Classifier:
    """A model on a device, verified with its golden samples.

    Args:
        model: the model.
        device: where it runs; a provider alone stands for its first device.
        batch_size: crops per call of the model.

    Raises:
        ProviderError: the model does not run on the provider.
        ModelError: its answers to its golden samples are wrong.
    """

    def __init__(self, model: Model, device: Device | Provider, batch_size: int) -> None:
        self._outputs = len(model.spec.outputs)
        self._path = model.path
        self._batch_size = batch_size
        self._session = open_session(
            model.graph, device, model.make_blank_input(), batch=batch_size
        )
        self._check_golden(model)

    def classify(self, crops: Pixels) -> Probabilities:
        """Compute the probability of each output for each crop.

        Args:
            crops: uint8 [n, H, W, C].

        Returns:
            float32 [n, K + A].

        Raises:
            ModelError: the model fails, such as on batches of this size.
            ProviderError: the device failed.
        """
        outputs = [
            self._run_batch(crops[at : at + self._batch_size])
            for at in range(0, len(crops), self._batch_size)
        ]
        return np.concatenate(outputs) if outputs else np.empty((0, self._outputs), np.float32)

    def _run_batch(self, batch: Pixels) -> Probabilities:
        try:
            answers: Probabilities = self._session.run(batch)[0]
        except BatchLabelError:  # such as a failed device
            raise
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            raise ModelError(
                f"model {self._path} fails on a batch of {len(batch)}"
                f" ({describe_ort_error(error)})",
                "try a smaller --batch-size; if that fails too, another model",
            ) from error
        return answers

    def _check_golden(self, model: Model) -> None:
        golden = model.spec.golden
        outputs = self.classify(golden.inputs)
        right = outputs.shape == golden.outputs.shape
        # In this form, NaN fails: every comparison with it is False.
        if right and np.abs(outputs - golden.outputs).max() <= GOLDEN_TOLERANCE:
            return
        raise ModelError(
            f"model {model.path} answers its own golden samples wrongly on "
            f"{self._session.provider.value}",
            "try --provider cpu; if that fails too, install or export the model again",
        )
