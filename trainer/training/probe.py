"""Linear probe: the initial classifier, fitted to pretrained features by logistic regression.

With a random classifier the first steps would distort the pretrained features (Kumar et al. 2022,
arXiv 2202.10054).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.datasets.dataset import Pixels, Split
from trainer.networks import Network, PhotoNet, average_pool

# This share of its stage's standard deviation is added to a feature's own, so that features that
# hardly vary are not amplified.
MIN_SPREAD = 0.3
# Scales the features so that one learning rate suits classifier and kernels.
FEATURE_GAIN = 10.0
BATCH_SIZE = 64
MAX_ITERATIONS = 100


def fit_probe(network: Network, part: Split, decay: float) -> None:
    """Standardise a network's features on samples, and fit its classifier to them.

    Every tapped stage has the same weight, however many channels it has. The classifier is fitted
    to the pictures and their mirror images.

    Args:
        network: the network, which is changed in place.
        part: the samples.
        decay: weight of half the squared weights against the sum of the samples' losses.
    """
    network.eval()
    sides = (part.pixels, part.pixels[:, :, ::-1])
    means = torch.cat([compute_channel_means(network, pixels) for pixels in sides])
    votes = torch.from_numpy(np.concatenate([part.votes, part.votes]))
    weights = torch.from_numpy(np.tile(part.normalised_weights, 2))
    fit_classifier(network, means, votes, decay, weights)


def fit_classifier(
    network: Network, means: Tensor, votes: Tensor, decay: float, weights: Tensor | None = None
) -> None:
    """Standardise features and fit the classifier, like ``fit_probe``, from given channel means.

    Args:
        network: the network, which is changed in place.
        means: ``compute_channel_means`` of the pictures and their mirror images, float [2 n, D].
        votes: float [2 n, K].
        decay: weight of half the squared weights against the sum of the samples' losses.
        weights: weight of each sample in the loss, float [2 n], 1 by default.
    """
    widths = network.tapped_widths if isinstance(network, PhotoNet) else (means.shape[1],)
    stages = torch.split(means, list(widths), dim=1)
    middle = means.mean(0)
    spread = torch.cat(
        [(s.std(0) + MIN_SPREAD * s.std()) * s.shape[1] ** 0.5 / FEATURE_GAIN for s in stages]
    )
    if isinstance(network, PhotoNet):
        network.standard.running_mean, network.standard.running_var = middle, spread**2
        network.standard.eval()
        features = standardise_features(network, means)
    else:
        features = (means - middle) / spread
    # The gain must not change the strength of the decay.
    weight, bias = fit_logistic_regression(
        features, votes, decay * FEATURE_GAIN**2, weights=weights
    )
    if not isinstance(network, PhotoNet):  # the classifier does the standardisation
        weight = weight / spread
        bias = bias - weight @ middle
    with torch.no_grad():
        network.classifier.weight.copy_(weight)
        network.classifier.bias.copy_(bias)


def standardise_features(network: Network, means: Tensor) -> Tensor:
    """Turn channel means into the classifier's features: float [n, D] in and out."""
    if not isinstance(network, PhotoNet):
        return means
    with torch.inference_mode():
        features: Tensor = network.standard(means[:, :, None, None]).flatten(1)
    return features.clone()


def compute_channel_means(network: Network, pixels: Pixels) -> Tensor:
    """Compute the means over the picture of the features, not yet standardised: float [n, D]."""
    layers = network.features[:-1] if isinstance(network, PhotoNet) else network.features
    batches = []
    with torch.no_grad():
        for at in range(0, len(pixels), BATCH_SIZE):
            batch = np.ascontiguousarray(pixels[at : at + BATCH_SIZE].transpose(0, 3, 1, 2))
            maps = layers(torch.from_numpy(batch).float())
            batches.append(average_pool(maps).flatten(1))
    return torch.cat(batches)


def fit_logistic_regression(
    features: Tensor,
    votes: Tensor,
    decay: float,
    start: Tensor | None = None,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Fit multinomial logistic regression with weight decay by L-BFGS.

    A picture and its mirror image count half each.

    Args:
        features: float [n, D].
        votes: float [n, K].
        decay: weight of half the squared weights against the sum of losses.
        start: logits [n, K] of an existing classifier; the result is then the change of its weights
            and biases, and both have weight decay.
        weights: weight of each sample in the loss, float [n], 1 by default.

    Returns:
        The weights [K, D] and biases [K].
    """
    begun = torch.zeros(()) if start is None else start
    weight = torch.zeros(votes.shape[1], features.shape[1], requires_grad=True)
    bias = torch.zeros(votes.shape[1], requires_grad=True)
    search = torch.optim.LBFGS(
        [weight, bias], max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe"
    )

    def loss() -> float:
        search.zero_grad()
        logits = begun + features @ weight.T + bias
        losses = F.cross_entropy(logits, votes, reduction="none")
        wrong = (losses if weights is None else losses * weights).sum() / 2
        total = wrong + decay / 2 * (weight * weight).sum()
        if start is not None:
            total = total + decay / 2 * (bias * bias).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total.item()

    search.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
