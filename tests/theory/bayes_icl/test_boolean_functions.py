"""Boolean functions: enumeration by hand, inclusion and exclusion, mirror images, teachers, the inputs' own word."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.bayes_icl.boolean_functions import (
    class_predictions,
    conjunction_chance,
    conjunction_predictions,
    disjunction_predictions,
    input_log_density,
    literal_log_prior,
    literal_sets,
    neighbour_head,
    neighbour_predictions,
    normal_form,
    teaching_sequence,
    threshold_function,
)

D, N = 4, 7
seeds = st.integers(0, 2**16)
predictions = jax.jit(conjunction_predictions)


def example(seed, d=D, n=N):
    """Inputs and labels of some conjunction, with positive examples among them."""
    rng = np.random.default_rng(seed)
    w = rng.choice([0, 1, -1], size=d, p=[0.5, 0.25, 0.25])
    x = rng.choice([-1.0, 1.0], size=(n, d))
    x[::2] = np.where(w == 0, x[::2], w)
    return w, x, np.all((w == 0) | (w == x), axis=1).astype(float)


def by_enumeration(x, y, p, rho):
    """All conjunctions in plain Python, densities by counting the inputs that satisfy them."""
    d, found = x.shape[1], []
    cube = list(itertools.product((-1, 1), repeat=d))
    for t in range(len(y)):
        total = [0.0, 0.0]
        for w in itertools.product((0, 1, -1), repeat=d):
            holds = [all(a in (0, b) for a, b in zip(w, z, strict=True)) for z in x[: t + 1]]
            if any(h != bool(v) for h, v in zip(holds[:t], y[:t], strict=True)):
                continue
            many = sum(all(a in (0, b) for a, b in zip(w, z, strict=True)) for z in cube)
            weight = np.prod([p if a == 0 else (1 - p) / 2 for a in w])
            for h in holds:
                weight *= (1 - rho) / 2**d + (rho / many if h else 0)
            total[holds[t]] += weight
        found.append(total[1] / sum(total))
    return np.array(found)


@pytest.mark.parametrize(("p", "rho"), [(0.7, 0.3), (0.3, 0.0), (0.5, 1.0)])
def test_conjunctions_by_enumeration(p, rho):
    for seed in (0, 1):
        w, x, y = example(seed, n=4)
        if rho == 1:
            x = np.where(w == 0, x, w)
            y = np.ones(4)
        np.testing.assert_allclose(conjunction_predictions(x, y, p, rho), by_enumeration(x, y, p, rho), rtol=1e-11)


def test_inputs_tell_before_any_label():
    x = np.array([[1.0, 1.0]])
    np.testing.assert_allclose(conjunction_predictions(x, np.zeros(1)), [0.7 * 0.7225 + 0.3], rtol=1e-12)
    np.testing.assert_allclose(conjunction_predictions(x, np.zeros(1), forced=0.0), [0.7225], rtol=1e-12)


@given(seeds, st.integers(1, N - 1))
def test_inclusion_and_exclusion(seed, t):
    _, x, y = example(seed)
    seen, labels = x[:t], y[:t] == 1
    # Padded by copies, which change nothing if inputs tell nothing: few shapes.
    expected = predictions(x, y, 0.6, 0.0)[t]
    found = conjunction_chance(x[t], seen[labels], seen[~labels], 0.6, 0.0)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.slow
def test_inclusion_and_exclusion_with_informative_inputs():
    for seed in range(3):
        _, x, y = example(seed)
        found = [conjunction_chance(x[t], x[:t][y[:t] == 1], x[:t][y[:t] == 0]) for t in range(N)]
        np.testing.assert_allclose(found, predictions(x, y), atol=1e-12)
    # In many dimensions: one positive example, then nothing but what differs from it.
    d, k = 28, 5
    x = np.ones((1, d))
    q = np.where(np.arange(d) < k, -1.0, 1.0)
    none = np.zeros((0, d))
    # Literals on the changed coordinates make it false; without informative inputs p_0 and p_1 by hand.
    share = (0.7 / 0.85) ** k
    np.testing.assert_allclose(conjunction_chance(q, x, none, 0.7, 0.0), share, rtol=1e-12)
    np.testing.assert_allclose(conjunction_chance(q, none, none), 0.3 + 0.7 * 0.85**d, rtol=1e-10)
    # Eleven negatives leave a probability.
    rng = np.random.default_rng(0)
    negatives = rng.choice([-1.0, 1.0], size=(11, d))
    assert 0 < conjunction_chance(q, x, negatives) < 1


@given(seeds)
def test_mirrors(seed):
    """Flipping a coordinate everywhere, exchanging coordinates, exchanging examples."""
    _, x, y = example(seed)
    found = predictions(x, y)
    rng = np.random.default_rng(seed)
    flips, order, past = rng.choice([-1.0, 1.0], size=D), rng.permutation(D), rng.permutation(N - 1)
    np.testing.assert_allclose(predictions((x * flips)[:, order], y), found, atol=1e-12)
    mixed = np.append(past, N - 1)
    np.testing.assert_allclose(predictions(x[mixed], y[mixed])[-1], found[-1], atol=1e-12)
    assert ((found >= 0) & (found <= 1 + 1e-12)).all()


def test_the_true_model_is_calibrated():
    """The mean of P(y = 1) over queries is the rate of ones, exactly: sum over the whole cube."""
    w = literal_sets(3)
    cube = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
    prior = np.exp(literal_log_prior(w, 0.4))
    np.testing.assert_allclose(prior.sum(), 1, rtol=1e-12)
    density = np.exp(input_log_density(w, cube, 0.6))
    np.testing.assert_allclose(density.sum(axis=1), 1, rtol=1e-12)
    truth = np.asarray(normal_form(w, cube))
    said = np.array([predictions_at(one) for one in cube])
    np.testing.assert_allclose(said * (prior @ density), prior @ (density * truth), rtol=1e-11)


def predictions_at(x):
    return float(conjunction_predictions(x[None], np.zeros(1), 0.4, 0.6)[0])


def test_disjunctions():
    """True where some literal holds; by enumeration of the functions themselves."""
    _, x, y = example(5, n=5)
    labels = 1 - y
    found = disjunction_predictions(x, labels, 0.6, 0.3)
    sets = literal_sets(D)
    truth = ~np.asarray(normal_form(-sets, x))
    log_input = input_log_density(-sets, x, 0.3)
    expected = class_predictions(truth, labels, log_input, literal_log_prior(sets, 0.6))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert (np.asarray(normal_form(sets, x)) == ~np.asarray(np.any((sets[:, 0, None] * x) == -1, axis=-1))).all()


def test_normal_forms():
    """Two terms of two coordinates; two equal terms are one conjunction."""
    sets = literal_sets(2, 2)
    assert sets.shape == (81, 2, 2)
    x = np.array([[1.0, -1.0], [-1.0, -1.0]])
    truth = np.asarray(normal_form(sets, x))
    one = np.asarray(normal_form(sets[:, :1], x)) | np.asarray(normal_form(sets[:, 1:], x))
    np.testing.assert_array_equal(truth, one)
    twice = np.repeat(literal_sets(2), 2, axis=1)
    np.testing.assert_allclose(input_log_density(twice, x), input_log_density(literal_sets(2), x), rtol=1e-12)
    cube = np.array(list(itertools.product((-1.0, 1.0), repeat=2)))
    np.testing.assert_allclose(np.exp(input_log_density(sets, cube)).sum(axis=1), 1, rtol=1e-12)


def test_thresholds():
    votes = np.array(list(itertools.product((0, 1), repeat=3)))
    x = np.array([[1.0, 1.0, -1.0]])
    np.testing.assert_array_equal(threshold_function(votes, x)[:, 0], votes @ x[0] > 0)
    np.testing.assert_array_equal(threshold_function(votes, x, 1.5)[:, 0], votes @ x[0] > 1.5)


@given(seeds)
def test_teaching_leaves_one_conjunction(seed):
    w = np.random.default_rng(seed).integers(-1, 2, size=D)
    x, y = teaching_sequence(w)
    sets = literal_sets(D)
    left = np.all(np.asarray(normal_form(sets, x)) == (np.asarray(y) == 1), axis=1)
    assert len(y) == np.count_nonzero(w) + 2
    np.testing.assert_array_equal(sets[left][:, 0], [w])


def test_sure_once_all_agree_and_differentiable():
    w, x, y = example(1)
    taught, labels = (np.asarray(part) for part in teaching_sequence(w))
    found = predictions(np.concatenate([taught, x]), np.concatenate([labels, y]))
    np.testing.assert_allclose(found[len(taught) :], y, atol=1e-12)
    slope = jax.jit(jax.grad(lambda r: conjunction_predictions(x, y, 0.7, r)[0]))(0.3)
    np.testing.assert_allclose(slope, 1 - 0.85**D, rtol=1e-10)
    assert np.isfinite(jax.jit(jax.grad(lambda p: conjunction_predictions(x, y, p, 0.3).sum()))(0.7))


def nearest_task(seed, n=12, d=5, random=4):
    """Labels of the generator itself, one after the other."""
    rng = np.random.default_rng(seed)
    x, y = rng.choice([-1.0, 1.0], (n, d)), []
    for t in range(n):
        cosines = [round(float(x[s] @ x[t]) / d, 7) for s in range(t)]
        y.append(float(rng.integers(2)) if t < random else y[cosines.index(max(cosines))])
    return x, np.array(y)


@given(seeds)
def test_nearest_neighbours(seed):
    """After the coin flips every label is known before it is seen; nothing that comes later changes what was said."""
    x, y = nearest_task(seed)
    found = np.asarray(neighbour_predictions(x, y, 4))
    np.testing.assert_array_equal(found[:4], 0.5)
    np.testing.assert_array_equal(found[4:], y[4:])
    changed = y.copy()
    changed[7:] = 1 - changed[7:]
    np.testing.assert_array_equal(neighbour_predictions(x, changed, 4)[:8], found[:8])


@given(seeds, st.floats(0, 30))
def test_neighbour_head(seed, sharpness):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(6, 3)), rng.integers(0, 2, 6).astype(float)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    found = neighbour_head(x, y, sharpness)
    for t in range(1, 6):
        weight = np.exp(sharpness * unit[:t] @ unit[t])
        np.testing.assert_allclose(found[t], weight @ y[:t] / weight.sum(), rtol=1e-10, atol=1e-14)
    # Real inputs are never equally near; directions alone count.
    np.testing.assert_allclose(neighbour_head(3 * x, y, 1e7)[1:], neighbour_predictions(x, y, 1)[1:], atol=1e-6)
    np.testing.assert_allclose(neighbour_head(x, y, 0.0)[1:], np.cumsum(y)[:-1] / np.arange(1, 6), rtol=1e-12)


ONES = np.ones((1, 3))
NONE = np.zeros((0, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: literal_sets(0), "d must be a whole number"),
        (lambda: conjunction_predictions(0 * ONES, np.ones(1)), "x must be 1 or -1, got 0.0"),
        (lambda: conjunction_predictions(ONES, -np.ones(1)), "y must be 0 or 1, got -1.0"),
        (lambda: conjunction_predictions(ONES, np.ones(1), 1.2), "absent must lie between 0 and 1, got 1.2"),
        (lambda: conjunction_predictions(ONES, np.ones(1), forced=-0.1), "forced must lie between 0 and 1, got -0.1"),
        (lambda: conjunction_predictions(ONES, np.ones(2)), "truth must have a column for each label"),
        (
            lambda: conjunction_predictions(np.ones((2, 3)), np.array([1.0, 0.0])),
            "log_density is impossible under every model",
        ),
        (lambda: conjunction_chance(ONES[0], ONES, ONES), "positives and negatives contradict every conjunction"),
        (lambda: conjunction_chance(ONES[0], np.ones((1, 2)), NONE), "positives must be a matrix of shape"),
        (lambda: conjunction_chance(ONES[0], NONE, np.ones((16, 3))), "negatives must be fewer than 16"),
        (lambda: conjunction_chance(ONES[0], NONE, NONE, forced=1.0), "forced must be below 1, got 1.0"),
        (lambda: normal_form(np.ones((2, 3), int), ONES), "literals must be whole numbers"),
        (lambda: teaching_sequence(np.array([2, 0])), "literals must be 0, 1 or -1"),
        (lambda: neighbour_predictions(0 * ONES, np.ones(1), 1), "x must have rows other than zero: their norm, got 0"),
        (lambda: neighbour_predictions(ONES, np.ones(1), 0), "random must be a whole number of at least 1, got 0"),
        (lambda: neighbour_head(ONES, np.ones(1), -1.0), "sharpness must be non-negative and finite, got -1"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
