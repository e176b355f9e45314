"""Cross-entropy and other losses in the linear regime: closed forms, one sample, invariants, refusals."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.kernels.cross_entropy import cross_entropy, logistic, loss_descent, loss_flow, softmax_margin
from theory.kernels.linearised_training import Blocks, flow_filter, trained_function
from theory.kernels.momentum import heavy_ball_filter, nesterov_filter

P, R, C = 5, 3, 3
T = np.array([0.0, 1.0, 10.0, 60.0])
STEPS = np.array([0, 1, 400, 800])
seeds = st.integers(0, 2**32 - 1)


def squared(y):
    return lambda f: 0.5 * jnp.sum((f - y) ** 2) / P


LOSSES = {"cross_entropy": lambda y: lambda f: cross_entropy(f, y), "squared": squared}


@partial(jax.jit, static_argnames="loss")
def flow(ntk, y, start, test, loss="cross_entropy", ridge=0.0):
    return loss_flow(T, LOSSES[loss](y), ntk, start, test, ridge=ridge)


@partial(jax.jit, static_argnames=("loss", "nesterov"))
def descent(lr, ntk, y, start, test, loss="cross_entropy", momentum=0.0, nesterov=False, ridge=0.0):
    rule = dict(momentum=momentum, nesterov=nesterov, ridge=ridge)
    return loss_descent(STEPS, lr, LOSSES[loss](y), ntk, start, test, **rule)


def drawn(seed):
    """Kernel of order one, labels in one-hot form, outputs at the start."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(P + R, 9)) / 3
    y = np.eye(C)[rng.integers(0, C, P)]
    return Blocks.split(features @ features.T, P), y, rng.normal(size=(P, C)), rng.normal(size=(R, C)), features


@pytest.mark.slow
@given(seeds, st.sampled_from([0.0, 0.1]))
def test_of_the_squared_loss_it_is_the_closed_form(seed, ridge):
    ntk, y, start, test, _ = drawn(seed)
    found = flow(ntk, y, start, test, "squared", ridge)
    expected = trained_function(lambda lam: flow_filter(T[:, None], lam, P, "mean_half", ridge), ntk, y, start, test)
    # The integrator's 1e-10 per step, over some tens of steps.
    np.testing.assert_allclose(found.test, expected, rtol=1e-7, atol=1e-8)


@given(seeds, st.sampled_from([0.0, 0.9]), st.booleans(), st.sampled_from([0.0, 0.1]))
def test_descent_of_the_squared_loss_is_the_closed_form(seed, beta, lookahead, ridge):
    ntk, y, start, test, _ = drawn(seed)
    found = descent(0.3, ntk, y, start, test, "squared", beta, lookahead, ridge)
    theory = nesterov_filter if lookahead else heavy_ball_filter
    own = Blocks(ntk.train, ntk.train, ntk.train)
    for blocks, rows, outputs in ((ntk, test, found.test), (own, start, found.train)):
        expected = trained_function(
            lambda lam: theory(STEPS[:, None], lam, P, 0.3, beta, ridge=ridge), blocks, y, start, rows
        )
        np.testing.assert_allclose(outputs, expected, rtol=1e-9, atol=1e-10)


@given(seeds, st.sampled_from([0.0, 0.1]))
def test_cross_entropy_is_descended_in_the_weights(seed, ridge):
    """Against gradient descent on the weights of f = features . theta."""
    ntk, y, start, test, features = drawn(seed)
    theta = weights_trained(features[:P], y, start, ridge)
    found = descent(0.3, ntk, y, start, test, ridge=ridge)
    np.testing.assert_allclose(found.train[-1], start + features[:P] @ theta, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(found.test[-1], test + features[P:] @ theta, rtol=1e-10, atol=1e-11)


@jax.jit
def weights_trained(features, y, start, ridge):
    def loss(theta):
        p = jax.nn.softmax(start + features @ theta)
        return -jnp.sum(y * jnp.log(p)) / P + ridge * jnp.sum(theta**2) / 2

    return jax.lax.fori_loop(0, STEPS[-1], lambda _, w: w - 0.3 * jax.grad(loss)(w), jnp.zeros((9, C)))


def test_the_error_of_a_step_is_halved_with_it():
    ntk, y, start, test, _ = drawn(3)
    exact = flow(ntk, y, start, test).test[2]
    coarse, fine = (descent(T[2] / STEPS[i], ntk, y, start, test).test[i] - exact for i in (2, 3))
    np.testing.assert_allclose(np.abs(coarse).max() / np.abs(fine).max(), 2, rtol=0.02)


@given(seeds)
def test_invariants_of_cross_entropy(seed):
    """The sum of the outputs stays; the loss falls; a permutation of the samples changes nothing."""
    ntk, y, start, test, _ = drawn(seed)
    found = flow(ntk, y, start, test)
    np.testing.assert_allclose(found.test.sum(-1), np.broadcast_to(test.sum(-1), (4, R)), atol=1e-11)
    np.testing.assert_array_equal(found.train[0], start)
    losses = [float(cross_entropy(f, y)) for f in found.train]
    assert (np.diff(losses) <= 1e-12).all()
    order = np.random.default_rng(seed).permutation(P)
    moved = Blocks(ntk.train[np.ix_(order, order)], ntk.cross[:, order], ntk.test)
    np.testing.assert_allclose(flow(moved, y[order], start[order], test).test, found.test, rtol=1e-7, atol=1e-8)


margin = jax.jit(softmax_margin, static_argnames="classes")
speed = jax.jit(jax.grad(softmax_margin), static_argnames="classes")


@jax.jit
def outputs_of_one(rate, f):
    """All outputs of one sample of the first class, by the ODE."""
    y, blocks = jnp.eye(len(f))[:1], Blocks.on_training_points(rate * jnp.ones((1, 1)))
    return loss_flow(np.array([0.5, 5.0]), lambda f: cross_entropy(f, y), blocks, f[None], f[None]).train[:, 0]


@given(st.floats(0.02, 20), st.floats(-6, 30), st.sampled_from([2, 5]))
def test_margin_of_one_sample(rate, start, classes):
    """Against the ODE of all outputs; slope at the start and law of the end."""
    if classes == 5:
        found = outputs_of_one(rate, jnp.zeros(classes).at[0].set(start))
        # The integrator's 1e-10 per step, on a margin that crosses zero.
        expected = margin(np.array([0.5, 5.0]), rate, start, classes=classes)
        np.testing.assert_allclose(found[:, 0] - found[:, 1], expected, rtol=1e-7, atol=1e-8)
    # Past a start e^{start} is what has to be outgrown.
    late = 1e12 * np.exp(max(start, 0.0)) / rate
    np.testing.assert_allclose(margin(late, rate, start, classes=classes), np.log(classes * rate * late), rtol=1e-9)
    np.testing.assert_allclose(margin(0.0, rate, start, classes=classes), start, rtol=1e-12, atol=1e-13)
    wrong = (classes - 1) * np.exp(-margin(0.3, rate, start, classes=classes))
    expected = classes * rate * wrong / (1 + wrong) / (classes - 1)
    np.testing.assert_allclose(speed(0.3, rate, start, classes=classes), expected, rtol=1e-6)


@given(seeds)
def test_logistic_is_cross_entropy_of_two(seed):
    rng = np.random.default_rng(seed)
    f, y = 10 * rng.normal(size=P), rng.choice([-1.0, 1.0], P)
    both = np.stack([f, np.zeros(P)], axis=1)
    labels = np.stack([y > 0, y < 0], axis=1).astype(float)
    np.testing.assert_allclose(logistic(f, y), cross_entropy(both, labels), rtol=1e-12)


def test_a_kernel_of_all_outputs():
    """Flat outputs and their own kernel: for Theta (x) I it is the same."""
    ntk, y, start, test, _ = drawn(0)
    wide = Blocks(*(np.kron(k, np.eye(C)) for k in ntk))
    flat = loss_descent(STEPS, 0.3, lambda f: cross_entropy(f.reshape(P, C), y), wide, start.ravel(), test.ravel())
    found = descent(0.3, ntk, y, start, test)
    np.testing.assert_allclose(flat.test.reshape(4, R, C), found.test, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda n, y, f, g: loss_flow(T, squared(y), n, f[1:], g), "^start_train must have 5 rows"),
        (lambda n, y, f, g: loss_flow(T, squared(y), n, f, g[1:]), "^start_test must have shape"),
        (lambda n, y, f, g: loss_flow(T[::-1], squared(y), n, f, g), "^t must increase"),
        (lambda n, y, f, g: loss_flow(T, squared(y), n, f, g, ridge=-1.0), "^ridge must be non-negative"),
        (lambda n, y, f, g: loss_descent(STEPS[::-1], 0.1, squared(y), n, f, g), "^steps must increase"),
        (lambda n, y, f, g: loss_descent(STEPS, 0.0, squared(y), n, f, g), "^lr must be positive"),
        (lambda n, y, f, g: loss_descent(STEPS, 0.1, squared(y), n, f, g, momentum=1.0), "^momentum must be below 1"),
        (lambda n, y, f, g: softmax_margin(1.0, 1.0, 0.0, 1), "^classes must be a whole number of at least 2"),
        (lambda n, y, f, g: softmax_margin(1.0, -1.0), "^rate must be non-negative"),
        (lambda n, y, f, g: softmax_margin(1.0, 1.0, 800.0), "^start must have a finite exponential, got 800"),
    ],
)
def test_refusals(call, words):
    ntk, y, start, test, _ = drawn(0)
    with pytest.raises(ValueError, match=words):
        call(ntk, y, start, test)
