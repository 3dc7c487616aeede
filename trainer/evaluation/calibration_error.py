"""The expected calibration error without the bias of its plain estimate, with a 95 % interval.

The plain estimate, the mean absolute gap between accuracy and confidence over bins, is above 0 even
for a perfectly calibrated model, because sampling error has no sign there: 0.08 for 100 samples and
0.03 for 1,000 (Bröcker and Smith 2007; Kumar et al. 2019, arXiv 1909.10155). A bootstrap around it
inherits and doubles this bias. Here a test is inverted instead (Carpenter 1999, "Test inversion
bootstrap confidence intervals"): of a path of assumed gaps, from none to more than the observed
ones, those count whose simulated samples give estimates like the observed one. Below
``MIN_CALIBRATION_SAMPLES`` there is no estimate: its interval would be of no use.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from trainer.evaluation.metrics import (
    INTERVAL_QUANTILES,
    NO_ESTIMATE,
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

# Fewer samples give no estimate: with 50 its interval is mostly 0.2 wide, too wide to be of use.
MIN_CALIBRATION_SAMPLES = 100
# Square of the standard deviations of a 95 % interval. Half of it is added to the right answers of
# a bin, and half to the wrong ones (Wilson 1927): a bin without wrong answers still has a spread.
PSEUDO_COUNT = NormalDist().inv_cdf(0.975) ** 2
# Rounding errors of a plain estimate. Estimates of few confidences are discrete, so many are equal.
TOLERANCE = 1e-9
# The path: each observed gap, moved towards 0 by so many of its standard errors, at most to 0
# (soft thresholding). Expansions move it away from 0, to the side of Wilson's centre: a bin without
# wrong answers is assumed to have some. Scaling all gaps by one factor instead gives intervals that
# contain the true error in 80 % of cases if only one bin is miscalibrated. The steps are small,
# because estimates from one confidence are discrete.
SOFT_THRESHOLDS = (8, 6.5, 5, 4, *np.arange(3.2, -0.1, -0.2).round(1).tolist())
EXPANSIONS = np.arange(0.2, 4.1, 0.2).round(1).tolist()


def estimate_calibration_error(probabilities: Probabilities, targets: Targets) -> Estimate:
    """Estimate the expected calibration error (Guo et al. 2017, arXiv 1706.04599), 0 to 1.

    The value is the error at which half of the simulated samples have a higher plain estimate; it
    is 0 if a perfectly calibrated model often has one as high as the observed one.

    Args:
        probabilities: float32 [n, K].
        targets: int64 [n].

    Returns:
        The estimate; NaN for fewer than ``MIN_CALIBRATION_SAMPLES``.
    """
    if len(targets) < MIN_CALIBRATION_SAMPLES:
        return NO_ESTIMATE
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
        value=float(np.interp(observed - TOLERANCE, middle, errors[order])),
        low=float(np.interp(observed - TOLERANCE, low, errors[order])),
        # Of errors whose simulated quantile is the observed estimate, the largest.
        high=float(np.interp(observed + TOLERANCE, high, errors[order])),
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

    Returns:
        The estimate; NaN for fewer than ``MIN_CALIBRATION_SAMPLES``.
    """
    if len(targets) < MIN_CALIBRATION_SAMPLES:
        return NO_ESTIMATE
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
    centre = (bins.accuracy * bins.count + PSEUDO_COUNT / 2) / (bins.count + PSEUDO_COUNT)
    gaps, centred = bins.accuracy - bins.confidence, centre - bins.confidence
    variances = np.maximum(bins.confidence * (1 - bins.confidence), centre * (1 - centre))
    spread = np.sqrt(variances / bins.count)
    shrunk = [np.maximum(np.abs(gaps) - step * spread, 0.0) for step in SOFT_THRESHOLDS]
    grown = [np.abs(gaps) + step * spread for step in EXPANSIONS]
    path = [
        np.zeros_like(gaps),
        *(np.sign(gaps) * size for size in shrunk),
        *(np.sign(centred) * size for size in grown),
    ]
    assumed: Figures = np.clip(bins.confidence + np.stack(path), 0.0, 1.0)
    return assumed


def _subtract_errors(mean_gaps: Figures) -> Figures:
    new, old = np.split(mean_gaps, 2, axis=-1)
    return calibration_error(new) - calibration_error(old)
