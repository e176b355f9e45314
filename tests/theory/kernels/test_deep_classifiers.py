"""Deep classifiers: the kernel machine by brute force, its limits at depth, interpolation, symmetries, refusals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.kernels.deep_classifiers import (
    deep_classifier,
    hilbert_classifier,
    interpolating_classifier,
    majority_vote,
    nearest_neighbour,
    singular_classifier,
)

CUBIC = np.array([0.0, 0.5, 0.0, 0.5])
FLAT = np.array([0.6, 0.3, 0.1])
EVEN = np.array([0.0, 0.0, 0.5, 0.5])
STEEP = np.array([0.2, 0.3, 0.5])
seeds = st.integers(0, 2**32 - 1)


def sphere(seed, samples=9, new=20, dimension=3):
    """Training inputs on the positive orthant of the unit sphere, labels of unequal numbers, and new inputs."""
    rng = np.random.default_rng(seed)
    x = np.abs(rng.normal(size=(samples + new, dimension)))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = np.where(rng.random(samples) < 0.3, 1.0, -1.0)
    y[:2] = 1, -1
    return x[samples:], x[:samples], y


def plain(x, x_train, y, squares, depth, ridge=0.0, kernel="ntk"):
    """The kernel machine in plain NumPy, kernels over their diagonal."""
    f = np.polynomial.Polynomial(squares)
    own, new = np.clip(x_train @ x_train.T, -1, 1), x @ x_train.T
    np.fill_diagonal(own, 1)
    sigma, theta = [own, new], [own, new]
    for _ in range(depth):
        theta = [f(s) + t * f.deriv()(s) for s, t in zip(sigma, theta, strict=True)]
        sigma = [f(s) for s in sigma]
    own, new = theta if kernel == "ntk" else sigma
    new, own = new / own[0, 0], own / own[0, 0]
    return (
        new @ np.linalg.solve(own + ridge * np.eye(len(y)), y),
        np.abs(new).max(axis=1),
        np.linalg.cond(own + ridge * np.eye(len(y))),
    )


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
@pytest.mark.parametrize("squares", [CUBIC, FLAT, EVEN, STEEP], ids=["cubic", "flat", "even", "steep"])
def test_a_deep_classifier_is_the_kernel_machine(squares, kernel):
    for seed in range(3):
        x, x_train, y = sphere(seed)
        for depth, ridge in ((0, 0.5), (4, 0.0), (4, 0.3)):
            found = deep_classifier(x, x_train, y, squares, depth, kernel=kernel, ridge=ridge)
            expected, size, condition = plain(x, x_train, y, squares, depth, ridge, kernel)
            scale = size if squares[0] == 0 or (squares is STEEP and kernel == "ntk") else 1.0
            # The plain solution loses what its matrix is ill-conditioned by.
            np.testing.assert_allclose(found * scale, expected, rtol=1e-10, atol=1e-14 * condition)


def agreement(first, second):
    return np.mean(np.sign(first) == np.sign(second))


@given(seeds)
def test_even_activations_become_the_nearest_neighbour(seed):
    x, x_train, y = sphere(seed)
    # Off-diagonals square in every layer: the ratio of two that differ by 1 % is e^{-10} after ten.
    cosines = np.sort(x @ x_train.T, axis=1)
    clear = np.log(cosines[:, -1] / cosines[:, -2]) > 0.01
    for kernel in ("ntk", "nngp"):
        found = deep_classifier(x, x_train, y, EVEN, 14, kernel=kernel)
        assert agreement(found[clear], nearest_neighbour(x, x_train, y)[clear]) == 1


@given(seeds)
def test_a_constant_kernel_becomes_a_majority_vote(seed):
    x, x_train, y = sphere(seed)
    # Theta's off-diagonals fall behind its diagonal by 1.3 per layer, once they have parted.
    found = deep_classifier(x, x_train, y, STEEP, 300)
    near = np.min(np.linalg.norm(x[:, None] - x_train, axis=2)) < 1e-3
    if not near:
        assert agreement(found, np.full(len(x), majority_vote(y))) == 1


@given(seeds)
def test_odd_activations_become_the_singular_classifier(seed):
    x, x_train, y = sphere(seed)
    limit = singular_classifier(x, x_train, y, CUBIC)
    # Votes of that much are not decided by the tangent kernel's distance from its limit, of order 1/L.
    clear = np.abs(limit) > 0.2
    for kernel in ("ntk", "nngp"):
        found = deep_classifier(x, x_train, y, CUBIC, 600, kernel=kernel)
        assert agreement(found[clear], limit[clear]) == 1


def test_many_layers_neither_overflow_nor_underflow():
    x, x_train, y = sphere(3)
    for squares in (CUBIC, FLAT, EVEN, STEEP):
        assert np.isfinite(deep_classifier(x, x_train, y, squares, 900)).all()


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
def test_a_flat_activation_interpolates_with_a_free_constant(kernel):
    x, x_train, y = sphere(1)
    limit = interpolating_classifier(x, x_train, y, FLAT)
    errors = [
        np.abs(deep_classifier(x, x_train, y, FLAT, depth, kernel=kernel) - limit).max() for depth in (20, 80, 320)
    ]
    if kernel == "ntk":
        # Like 1/L.
        np.testing.assert_allclose(np.array(errors[:-1]) / errors[1:], 4, rtol=0.3)
    else:
        # Like 2^-L, down to the conditioning of the distances.
        assert errors[1] < 1e-7
    ridged = deep_classifier(x, x_train, y, FLAT, 80, kernel=kernel, ridge=0.1)
    np.testing.assert_allclose(ridged, np.full(len(x), y.sum() / (len(y) + 0.1)), atol=1e-12)


@given(seeds)
def test_training_labels_are_kept(seed):
    _, x_train, y = sphere(seed)
    np.testing.assert_array_equal(nearest_neighbour(x_train, x_train, y), y)
    np.testing.assert_allclose(singular_classifier(x_train, x_train, y, CUBIC), y, rtol=1e-14)
    np.testing.assert_allclose(hilbert_classifier(x_train, x_train, y, 2.0), y, rtol=1e-14)
    # The distances of nine random points are conditioned to 1e6 or so.
    np.testing.assert_allclose(interpolating_classifier(x_train, x_train, y, FLAT), y, atol=1e-6)
    np.testing.assert_allclose(deep_classifier(x_train, x_train, y, CUBIC, 30), y, atol=1e-8)


@given(seeds)
def test_scores_are_linear_in_the_labels_and_blind_to_rotations_and_order(seed):
    x, x_train, y = sphere(seed)
    rng = np.random.default_rng(seed)
    rotation, order = np.linalg.qr(rng.normal(size=(3, 3)))[0], rng.permutation(len(y))
    for classifier in (
        lambda *data: singular_classifier(*data, CUBIC),
        lambda *data: hilbert_classifier(*data, 1.7),
        lambda *data: deep_classifier(*data, CUBIC, 30),
    ):
        score = classifier(x, x_train, y)
        np.testing.assert_allclose(classifier(x @ rotation, x_train @ rotation, y), score, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(classifier(x, x_train[order], y[order]), score, rtol=1e-7, atol=1e-9)
        columns = classifier(x, x_train, np.stack([y, 2 * y + 1], axis=1))
        np.testing.assert_allclose(columns[:, 0], score, rtol=1e-9, atol=1e-11)


def test_hilbert_weights_are_powers_of_the_distance():
    x, x_train, y = sphere(0)
    weights = np.linalg.norm(x[:, None] - x_train, axis=2) ** -1.7
    np.testing.assert_allclose(hilbert_classifier(x, x_train, y, 1.7), weights @ y / weights.sum(axis=1), rtol=1e-12)


X, X_TRAIN, Y = sphere(0)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: nearest_neighbour(2 * X, X_TRAIN, Y), "x must have rows of norm one"),
        (lambda: nearest_neighbour(X[:, :2], X_TRAIN, Y), "x must be a matrix"),
        (lambda: singular_classifier(X, X_TRAIN, Y[1:], CUBIC), "y must hold a label"),
        (lambda: singular_classifier(X, X_TRAIN, Y, "relu"), "phi must have"),
        (lambda: hilbert_classifier(X, X_TRAIN, Y, -1.0), "exponent must be positive"),
        (lambda: deep_classifier(X, X_TRAIN, Y, CUBIC, -1), "depth must be"),
        (lambda: deep_classifier(X, X_TRAIN, Y, CUBIC, 2, kernel="rbf"), "kernel must be"),
        (lambda: deep_classifier(X, X_TRAIN, Y, CUBIC, 2, ridge=-0.1), "ridge must be"),
    ],
)
def test_refusals_name_the_argument(call, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        call()
