"""What every Bayes predictor of noisy labels obeys: laws to hold your own predictor to.

    from validation.predictor_laws import law_test

    test_mine = law_test(my_predictor)  # in a file of tests: one test for each law

A predictor takes x (n, d), y (n,) and a noise variance to something with `mean`, `variance` and `log_density`, (n,)
each: of y_t from the pairs before it, noise included. Each law gives a deviation, relative to the scale of the
densities, which rounding alone keeps from zero. `LAWS` hold for every exchangeable prior, `SYMMETRIC` for one that is
even in the function, `GAUSSIAN` for Gaussian weights, `ISOTROPIC` where these are independent of one variance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from validation.strategies import log_uniform, rotations, seeds


class Context(NamedTuple):
    """Inputs (n, d), labels (n,), a noise variance, a rotation (d, d), and an order of all pairs but the last."""

    x: np.ndarray
    y: np.ndarray
    noise: float
    rotation: np.ndarray
    order: np.ndarray


Predictor = Callable[..., object]


@st.composite
def contexts(draw, shapes: tuple[tuple[int, int], ...] = ((6, 2), (4, 6)), quietest: float = 1e-3) -> Context:
    """Prompts with more pairs than dimensions and with fewer, and labels of order one that no task need have given."""
    n, d = draw(st.sampled_from(shapes))
    rng = np.random.default_rng(draw(seeds))
    x, y = rng.normal(size=(n, d)), draw(st.floats(0.1, 3)) * rng.normal(size=n)
    order = np.append(rng.permutation(n - 1), n - 1)
    return Context(x, y, draw(log_uniform(quietest, 4.0)), draw(rotations(d)), order)


def _numbers(found):
    return tuple(np.asarray(part, float) for part in (found.mean, found.variance, found.log_density))


def _apart(one, other, scale=1.0) -> float:
    deviations = [np.max(np.abs(a - b)) for a, b in zip(one, other, strict=True)]
    return float(max(deviations) / scale)


def _scale(predictor, context):
    return 1 + float(np.max(np.abs(_numbers(predictor(context.x, context.y, context.noise))[2])))


def exchangeable(predictor: Predictor, context: Context) -> float:
    """The order of the pairs before the last changes neither its prediction nor the evidence of all of them."""
    x, y, noise, _, order = context
    straight, mixed = _numbers(predictor(x, y, noise)), _numbers(predictor(x[order], y[order], noise))
    last = _apart([part[-1] for part in straight], [part[-1] for part in mixed], _scale(predictor, context))
    return max(last, _apart([straight[2].sum()], [mixed[2].sum()], _scale(predictor, context)))


def blind_to_the_future(predictor: Predictor, context: Context) -> float:
    """Mean and variance of y_t know neither y_t nor anything later; its log density knows y_t."""
    x, y, noise, *_ = context
    before = _numbers(predictor(x, y, noise))
    changed = y.copy()
    changed[-1] += 1.0
    after = _numbers(predictor(x, changed, noise))
    moved = np.concatenate([before[0] - after[0], before[1] - after[1], (before[2] - after[2])[:-1]])
    return float(np.max(np.abs(moved)) / _scale(predictor, context))


def louder_than_the_noise(predictor: Predictor, context: Context) -> float:
    """No label is known better than its noise allows: by how much a variance is below it, relative to it."""
    variance = _numbers(predictor(context.x, context.y, context.noise))[1]
    return float(max(0.0, np.max(1 - variance / context.noise)))


def repeated_pair(predictor: Predictor, context: Context) -> float:
    """The mean of two labels at one input, with half the noise, says as much of a third input as both do.

    Held by what both say of the last pair, so that the first two pairs of the context are one input.
    """
    x, y, noise, *_ = context
    twice = np.concatenate([x[:1], x[:1], x[-1:]]), np.array([y[0], y[1], y[-1]])
    once = np.concatenate([x[:1], x[-1:]]), np.array([(y[0] + y[1]) / 2, y[-1]])
    both = _numbers(predictor(*twice, noise))
    half = _numbers(predictor(*once, np.array([noise / 2, noise])))
    return _apart([both[0][-1], both[1][-1]], [half[0][-1], half[1][-1]], _scale(predictor, context))


def odd(predictor: Predictor, context: Context) -> float:
    """With all labels of the other sign, so are predictions; variances stay."""
    mean, variance, density = _numbers(predictor(context.x, context.y, context.noise))
    turned = _numbers(predictor(context.x, -context.y, context.noise))
    return _apart((-mean, variance, density), turned, _scale(predictor, context))


def rotated(predictor: Predictor, context: Context) -> float:
    """A rotation of all inputs changes nothing."""
    x, y, noise, rotation, _ = context
    return _apart(
        _numbers(predictor(x, y, noise)), _numbers(predictor(x @ rotation.T, y, noise)), _scale(predictor, context)
    )


def affine(predictor: Predictor, context: Context) -> float:
    """Predictions at twice the labels are twice as far from those at none; variances do not depend on labels."""
    x, y, noise, *_ = context
    none, once, twice = (_numbers(predictor(x, factor * y, noise)) for factor in (0.0, 1.0, 2.0))
    bend = np.max(np.abs(twice[0] - 2 * once[0] + none[0]))
    return float(max(bend, np.max(np.abs(twice[1] - none[1]))) / _scale(predictor, context))


def falling_variance(predictor: Predictor, context: Context) -> float:
    """What is not known of one and the same query never grows with data, whatever the data: by how much it does."""
    x, y, noise, *_ = context
    at_query = []
    for t in range(len(y)):
        prefix = np.concatenate([x[:t], x[-1:]]), np.append(y[:t], 0.0)
        at_query.append(_numbers(predictor(*prefix, noise))[1][-1])
    return float(max(0.0, np.max(np.diff(at_query))) / _scale(predictor, context))


def calibration(predictor: Predictor, x: np.ndarray, y: np.ndarray, noise: float) -> float:
    """Prompts x (P, n, d), y (P, n) drawn from the predictor's own prior: how far its errors are from what it says.

    Standardised errors have mean zero and mean square one, and those of different positions are uncorrelated, whether
    Gaussian or not. The worst of all these means, in standard errors over prompts: at most five, say.
    """
    means, variances, _ = zip(*(_numbers(predictor(*prompt, noise)) for prompt in zip(x, y, strict=True)), strict=True)
    z = (y - np.array(means)) / np.sqrt(np.array(variances))
    pairs = np.array([z[:, i] * z[:, j] for i in range(z.shape[1]) for j in range(i)])
    seen = np.concatenate([z.T, z.T**2 - 1, pairs])
    return float(np.max(np.abs(seen.mean(axis=1)) / (seen.std(axis=1, ddof=1) / np.sqrt(len(y)))))


LAWS = {law.__name__: law for law in (exchangeable, blind_to_the_future, louder_than_the_noise)}
SYMMETRIC = LAWS | {"odd": odd}
GAUSSIAN = LAWS | {law.__name__: law for law in (repeated_pair, affine, falling_variance)}
ISOTROPIC = SYMMETRIC | GAUSSIAN | {"rotated": rotated}


def law_test(
    predictor: Predictor,
    laws: Mapping[str, Callable[[Predictor, Context], float]] = LAWS,
    prompts: st.SearchStrategy[Context] | None = None,
    tolerance: float = 1e-8,
) -> Callable[..., None]:
    """A test function, parametrised by `laws`, of what `predictor` says of drawn `prompts` (by default `contexts()`).

    `test_mine = law_test(my_predictor, ISOTROPIC)` in a file of tests is all that pytest needs. Float32 is too coarse
    for the tolerance, and a predictor that is not compiled may take seconds for each law.
    """
    import pytest  # no dependency of the library

    @pytest.mark.parametrize("law", laws)
    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(context=contexts() if prompts is None else prompts)
    def test(law, context):
        deviation = laws[law](predictor, context)
        if not deviation < tolerance:
            summary = (laws[law].__doc__ or "").split("\n")[0]
            raise AssertionError(f"{law}: {summary} Measured {deviation:.3g}, tolerance {tolerance:g}.")

    return test
