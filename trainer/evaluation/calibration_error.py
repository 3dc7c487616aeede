"""The expected calibration error without the bias of its plain estimate, with a 95 % interval.

The plain estimate, the mean absolute gap between accuracy and confidence over bins, is above 0 even
for a perfectly calibrated model, because sampling error has no sign there: 0.08 for 100 samples and
0.03 for 1,000 (Bröcker and Smith 2007; Kumar et al. 2019, arXiv 1909.10155). A bootstrap around it
inherits and doubles this bias. Here a test is inverted instead (Carpenter 1999, "Test inversion
bootstrap confidence intervals"): of a path of assumed gaps, from none to more than the observed
ones, those count whose simulated samples give estimates like the observed one.
"""

from __future__ import annotations

import numpy as np

from trainer.evaluation.metrics import (
    INTERVAL_QUANTILES,
    RESAMPLES,
    SEED,
    Estimate,
    Figures,
    Probabilities,
    Reliability,
    Targets,
    calibration_error,
    calibration_gaps,
    estimate_from_means,
    reliability,
)

# The path: each observed gap, moved towards 0 by so many of its standard errors, at most to 0
# (soft thresholding); negative ones move it away from 0. Scaling all gaps by one factor instead
# gives intervals that contain the true error in 80 % of cases if only one bin is miscalibrated.
SOFT_THRESHOLDS = (8, 5, 3, 2.5, 2, 1.6, 1.3, 1, 0.8, 0.6, 0.4, 0.2, 0)
EXPANSIONS = (0.2, 0.4, 0.7, 1, 1.5, 2, 3)


def estimate_calibration_error(probabilities: Probabilities, targets: Targets) -> Estimate:
    """Estimate the expected calibration error (Guo et al. 2017, arXiv 1706.04599), 0 to 1.

    The value is the error at which half of the simulated samples have a higher plain estimate; it
    is 0 if a perfectly calibrated model often has one as high as the observed one.

    Args:
        probabilities: float32 [n, K].
        targets: int64 [n], n > 0.
    """
    bins = reliability(probabilities, targets)
    filled = bins.count > 0
    bins = Reliability(bins.count[filled], bins.confidence[filled], bins.accuracy[filled])
    samples = int(bins.count.sum())
    shares = bins.count / samples
    observed = float(shares @ np.abs(bins.accuracy - bins.confidence))
    assumed = _make_path(bins)
    errors = np.abs(assumed - bins.confidence) @ shares
    rng = np.random.default_rng(SEED)
    counts = rng.multinomial(samples, shares, size=RESAMPLES)
    right = rng.binomial(counts, assumed[:, None, :])
    simulated = np.abs(right - counts * bins.confidence).sum(axis=-1) / samples
    order = np.argsort(errors, kind="stable")
    # Larger gaps have larger estimates, but for the noise of the simulation.
    low, middle, high = np.maximum.accumulate(
        np.quantile(simulated, (INTERVAL_QUANTILES[1], 0.5, INTERVAL_QUANTILES[0]), axis=1)[
            :, order
        ],
        axis=1,
    )
    return Estimate(
        value=_find_error(observed, middle, errors[order]),
        low=_find_error(observed, low, errors[order]),
        high=_find_error(observed, high, errors[order]),
    )


def estimate_calibration_growth(
    new: Probabilities, old: Probabilities, targets: Targets
) -> Estimate:
    """Estimate the difference of two models' calibration errors on the same samples.

    The interval has the width of a paired bootstrap. It is centred on the difference of the
    estimates above: the biases of the plain ones differ, and hide most of a growth if the samples
    are few.

    Args:
        new: probabilities of the first model, float32 [n, K].
        old: probabilities of the second model, which is subtracted.
        targets: int64 [n].
    """
    gaps = np.hstack([calibration_gaps(p, targets) for p in (new, old)])
    plain = estimate_from_means(_subtract_errors, gaps)
    value = (
        estimate_calibration_error(new, targets).value
        - estimate_calibration_error(old, targets).value
    )
    shift = value - plain.value
    return Estimate(value, plain.low + shift, plain.high + shift)


def _make_path(bins: Reliability) -> Figures:
    """Make the assumed accuracies of the bins, first the calibrated ones: float64 [path, bins]."""
    gaps = bins.accuracy - bins.confidence
    variances = np.maximum(
        bins.confidence * (1 - bins.confidence), bins.accuracy * (1 - bins.accuracy)
    )
    spread = np.sqrt(variances / bins.count)
    shrunk = [np.maximum(np.abs(gaps) - step * spread, 0.0) for step in SOFT_THRESHOLDS]
    grown = [np.abs(gaps) + step * spread for step in EXPANSIONS]
    path = [np.zeros_like(gaps), *(np.sign(gaps) * size for size in (*shrunk, *grown))]
    assumed: Figures = np.clip(bins.confidence + np.stack(path), 0.0, 1.0)
    return assumed


def _find_error(observed: float, quantiles: Figures, errors: Figures) -> float:
    """Find the error whose simulated quantile is the observed estimate."""
    if observed <= quantiles[0]:
        return 0.0
    return float(np.interp(observed, quantiles, errors))


def _subtract_errors(mean_gaps: Figures) -> Figures:
    new, old = np.split(mean_gaps, 2, axis=-1)
    return calibration_error(new) - calibration_error(old)
