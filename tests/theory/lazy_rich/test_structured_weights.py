"""Structured weights: norms by sampling, known ensembles, limits, symmetries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.lazy_rich.laziness import effective_rank
from theory.lazy_rich.structured_weights import (
    Connectivity,
    cell_type_blocks,
    dale_weights,
    expected_effective_rank,
    expected_square_norms,
    low_rank_plus_noise,
)

H, D = 6, 4
RNG = np.random.default_rng(2)
LOW = np.outer(RNG.normal(size=H), RNG.normal(size=D))
TO, SOURCE = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 1, 2])
MEANS, DEVIATIONS = RNG.normal(size=(2, 3)), RNG.uniform(0.2, 1, size=(2, 3))
SIGNS, SCALES = np.array([1.0, 1.0, 1.0, -1.0]), np.array([0.5, 0.5, 0.7, 2.0])


def by_hand(name, rng, runs):
    noise = rng.normal(size=(runs, H, D))
    if name == "low rank":
        return LOW + 0.6 * noise
    if name == "blocks":
        return MEANS[TO][:, SOURCE] + DEVIATIONS[TO][:, SOURCE] * noise
    return SIGNS * np.abs(SCALES * noise)


ENSEMBLES = {
    "low rank": low_rank_plus_noise(LOW, 0.6),
    "blocks": cell_type_blocks(TO, SOURCE, MEANS, DEVIATIONS),
    "dale": dale_weights(SIGNS, SCALES, H),
}


@pytest.mark.parametrize("name", ENSEMBLES)
def test_norms_by_sampling(name):
    w = by_hand(name, np.random.default_rng(3), 40_000)
    square = np.einsum("nij,nik->njk", w, w)
    for expected, values in zip(
        expected_square_norms(ENSEMBLES[name]),
        (np.trace(square, axis1=1, axis2=2), np.sum(square**2, axis=(1, 2))),
        strict=True,
    ):
        assert abs(values.mean() - expected) < 5 * values.std() / 200


@pytest.mark.parametrize("name", ENSEMBLES)
def test_rank_of_single_large_matrices(name):
    errors = []
    for copies in (8, 32):
        # The same cell types, many times over.
        parts = (np.tile(part, (copies, copies)) for part in ENSEMBLES[name])
        mean, variance, third, fourth = parts
        noise = np.random.default_rng(4).normal(size=(6, *mean.shape))
        w = mean + np.sqrt(variance) * noise
        found = np.asarray(effective_rank(np.einsum("nij,nik->njk", w, w)))
        expected = expected_effective_rank(Connectivity(mean, variance, 0 * third, 0 * fourth))
        errors.append(abs(found.mean() / expected - 1))
    # Of relative order 1 / min(H, d), and six samples of it.
    assert errors[0] < 4 / (8 * D) and errors[1] < 4 / (32 * D)


@given(st.sampled_from([(1, 1), (30, 1), (4, 9), (30, 20)]), st.floats(0.01, 10))
def test_equal_gaussian_weights(shape, deviation):
    units, inputs = shape
    found = expected_effective_rank(low_rank_plus_noise(np.zeros(shape), deviation))
    np.testing.assert_allclose(found, units * inputs / (units + inputs + 1), rtol=1e-9)


@given(st.integers(0, 2**32 - 1))
def test_without_noise_it_is_the_rank_of_the_means(seed):
    low = np.random.default_rng(seed).normal(size=(H, D))
    found = expected_effective_rank(low_rank_plus_noise(low, 0.0))
    np.testing.assert_allclose(found, effective_rank(low.T @ low), rtol=1e-9)


def test_transposes_and_scales_do_not_count():
    plain = ENSEMBLES["blocks"]
    turned = cell_type_blocks(SOURCE, TO, MEANS.T, DEVIATIONS.T)
    np.testing.assert_allclose(expected_effective_rank(turned), expected_effective_rank(plain), rtol=1e-12)
    scaled = cell_type_blocks(TO, SOURCE, 3 * MEANS, 3 * DEVIATIONS)
    np.testing.assert_allclose(expected_effective_rank(scaled), expected_effective_rank(plain), rtol=1e-12)


def test_dales_law_makes_an_outlier():
    """Of many weights of one sign the mean is a share 2/pi of the norm: rank (pi/2)^2 at most."""
    large = dale_weights(np.ones(2000), np.ones(2000), 2000)
    np.testing.assert_allclose(expected_effective_rank(large), (np.pi / 2) ** 2, rtol=0.01)
    assert expected_effective_rank(dale_weights(SIGNS, SCALES, H)) < 0.7 * H * D / (H + D + 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: low_rank_plus_noise(LOW, -0.1), "deviation must be non-negative"),
        (lambda: low_rank_plus_noise(np.full((2, 2), np.nan), 0.1), "low_rank must be finite"),
        (lambda: cell_type_blocks(TO + 1, SOURCE, MEANS, DEVIATIONS), "to must be types from 0 to 1, got 2"),
        (lambda: cell_type_blocks(TO, SOURCE, MEANS, DEVIATIONS[:1]), "deviations must be a matrix"),
        (lambda: dale_weights(np.array([1.0, 0.5]), np.ones(2), 3), "signs must be 1 or -1, got 0.5"),
        (lambda: dale_weights(np.ones(2), np.ones(3), 3), "signs and scales must be vectors of the same length"),
        (lambda: dale_weights(np.ones(2), np.zeros(2), 3), "scales must be positive"),
        (lambda: expected_effective_rank(Connectivity(*[np.zeros((2, 2))] * 4)), "weights must not all be zero"),
        (lambda: expected_square_norms((LOW, LOW, LOW, LOW[:2])), "weights must hold four matrices of one shape"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
