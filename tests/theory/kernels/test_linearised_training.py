"""Linearised training: brute force in the weights, limits, symmetries, null directions, refusals."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from theory.kernels.linearised_training import (
    Blocks,
    descent_filter,
    descent_outputs,
    flow_filter,
    flow_outputs,
    input_blocks,
    largest_stable_lr,
    nngp_posterior,
    prediction,
    trained_function,
    trained_outputs,
)

P, R, C, WEIGHTS = 5, 3, 2, 9
seeds = st.integers(0, 2**32 - 1)
losses = st.sampled_from(["mean_half", "sum_half", "mean"])
# On the scale of the time constants, which are of order one in the loss "sum_half" and P in the others.
times = st.floats(0, 30)
ridges = st.sampled_from([0.0, 0.05, 0.8])

flow = jax.jit(flow_outputs, static_argnames="loss")
descent = jax.jit(descent_outputs, static_argnames="loss")
posterior = jax.jit(nngp_posterior)
flow_modes = jax.jit(flow_filter, static_argnames=("samples", "loss"))
descent_modes = jax.jit(descent_filter, static_argnames=("samples", "loss"))


@partial(jax.jit, static_argnames="name")
def descent_of_loss(x, name):
    """-grad L = slope theta + push y, read off the loss that is meant, for f = x theta."""

    def loss(theta, y):
        square = jnp.sum((y - x @ theta) ** 2)
        return {"mean_half": square / (2 * P), "sum_half": square / 2, "mean": square / P}[name]

    origin = jnp.zeros(x.shape[1]), jnp.zeros(P)
    return tuple(-jax.jacfwd(jax.grad(loss), argnums=i)(*origin) for i in (0, 1))


class Linear:
    """f = features . theta on P training and R test points, theta ~ N(0, spread spread^T)."""

    def __init__(self, seed, weights=WEIGHTS):
        rng = np.random.default_rng(seed)
        self.features = rng.normal(size=(P + R, weights)) / np.sqrt(weights)
        self.x, self.x_test = self.features[:P], self.features[P:]
        self.spread = rng.normal(size=(weights, weights)) / np.sqrt(weights)
        self.y = rng.normal(size=(P, C))
        self.ntk = Blocks.split(self.features @ self.features.T, P)
        self.nngp = Blocks.split(self.features @ self.spread @ self.spread.T @ self.features.T, P)

    def field(self, name, ridge):
        """Matrices of dtheta/dt = slope theta + drive y."""
        slope, push = descent_of_loss(self.x, name)
        return np.asarray(slope) - ridge * np.eye(len(slope)), np.asarray(push)

    def trained(self, move, drive, ridge, noise):
        """Mean and covariance where theta = theta_0 + move . (velocity at theta_0), entered in the weights."""
        slope, push = drive
        reset = slope + ridge * np.eye(len(slope))
        start = np.eye(len(slope)) + move @ reset
        gain = move @ push
        covariance = start @ self.spread @ self.spread.T @ start.T + noise * gain @ gain.T
        return self.x_test @ gain @ self.y, self.x_test @ covariance @ self.x_test.T


def assert_close(found, expected, scale=1.0):
    """To rounding, after a few products of matrices with entries of order one."""
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-11 * scale)


@given(seeds, times, losses, ridges, st.sampled_from([0.0, 0.3]))
def test_flow_is_the_flow_of_the_weights(seed, t, loss, ridge, noise):
    model = Linear(seed)
    slope, push = model.field(loss, ridge)
    w = len(slope)
    # int_0^t e^{slope s} ds, as a block of one matrix exponential.
    integral = scipy.linalg.expm(t * np.block([[slope, np.eye(w)], [np.zeros((w, 2 * w))]]))[:w, w:]
    mean, covariance = model.trained(integral, (slope, push), ridge, noise)
    found = flow(t, model.ntk, model.nngp, model.y, loss=loss, ridge=ridge, noise=noise)
    assert_close(found.mean, mean)
    assert_close(found.covariance, covariance)


@given(seeds, st.integers(0, 40), st.floats(0.01, 2.2), losses, ridges)
def test_descent_is_the_descent_of_the_weights(seed, steps, lr, loss, ridge):
    """Also beyond the edge of stability, where the fastest mode grows."""
    model = Linear(seed)
    slope, push = model.field(loss, ridge)
    fastest = np.abs(np.linalg.eigvalsh(slope)).max()
    lr = lr / fastest
    move, power = np.zeros_like(slope), np.eye(len(slope))
    for _ in range(steps):
        move, power = move + lr * power, power + lr * slope @ power
    mean, covariance = model.trained(move, (slope, push), ridge, 0.0)
    found = descent(steps, lr, model.ntk, model.nngp, model.y, loss=loss, ridge=ridge)
    grown = max(1.0, np.abs(1 - lr * fastest) ** steps)
    assert_close(found.mean, mean, grown)
    assert_close(found.covariance, covariance, grown**2)


@given(seeds, times)
def test_one_network_follows_from_its_own_start(seed, t):
    model = Linear(seed)
    theta = model.spread @ np.random.default_rng(seed).normal(size=(WEIGHTS, C))
    slope, push = model.field("mean_half", 0.0)
    moved = scipy.linalg.expm(t * np.block([[slope, push], [np.zeros((P, WEIGHTS + P))]]))[:WEIGHTS]
    expected = model.x_test @ moved @ np.concatenate([theta, model.y])
    spectral_filter = partial(flow_filter, t, samples=P)
    found = trained_function(spectral_filter, model.ntk, model.y, model.x @ theta, model.x_test @ theta)
    assert_close(found, expected)


@given(seeds, losses)
def test_start_and_end(seed, loss):
    model = Linear(seed)
    start = flow(0.0, model.ntk, model.nngp, model.y, loss=loss)
    np.testing.assert_array_equal(start.mean, 0)
    assert_close(start.covariance, model.nngp.test)
    # On the training points the end is the targets; the condition number of Theta multiplies the rounding.
    rounding = 1e-14 * np.linalg.cond(model.ntk.train)
    own, prior = Blocks.on_training_points(model.ntk.train), Blocks.on_training_points(model.nngp.train)
    end = flow(jnp.inf, own, prior, model.y, loss=loss)
    np.testing.assert_allclose(end.mean, model.y, atol=10 * rounding)
    np.testing.assert_allclose(end.covariance, 0, atol=100 * rounding)
    late = flow(1e300, model.ntk, model.nngp, model.y, loss=loss)
    end = flow(jnp.inf, model.ntk, model.nngp, model.y, loss=loss)
    np.testing.assert_allclose(late.mean, end.mean, rtol=1e-12)
    np.testing.assert_allclose(
        end.mean, model.ntk.cross @ np.linalg.solve(model.ntk.train, model.y), atol=100 * rounding
    )


@given(seeds, times)
def test_training_targets_are_approached_monotonically_in_every_mode(seed, t):
    model = Linear(seed)
    v = np.linalg.eigh(model.ntk.train)[1]
    own, prior = Blocks.on_training_points(model.ntk.train), Blocks.on_training_points(model.nngp.train)
    early, later = (v.T @ (model.y - flow(time, own, prior, model.y).mean) for time in (t, 1.3 * t + 0.1))
    assert (np.abs(later) <= np.abs(early) + 1e-12).all() and (early * later >= -1e-12).all()


@given(seeds, times, losses)
def test_covariance_is_positive_semi_definite(seed, t, loss):
    model = Linear(seed)
    for time in (t, jnp.inf):
        covariance = flow(time, model.ntk, model.nngp, model.y, loss=loss).covariance
        np.testing.assert_array_equal(covariance, covariance.T)
        assert np.linalg.eigvalsh(covariance)[0] >= -1e-11 * (1 + np.abs(covariance).max())


@given(seeds, times)
def test_losses_are_clocks(seed, t):
    model = Linear(seed)
    given_, other = (model.ntk, model.nngp, model.y), (Blocks(*(2 * k for k in model.ntk)), model.nngp, model.y)
    reference = flow(t, *given_)
    for equal in (
        flow(t / 2, *given_, loss="mean"),
        flow(t / P, *given_, loss="sum_half"),
        flow(t / 2, *other),
    ):
        assert_close(equal.mean, reference.mean)
        assert_close(equal.covariance, reference.covariance)


@given(seeds, times)
def test_linear_in_targets_and_equivariant_under_permutations(seed, t):
    model = Linear(seed)
    whole = flow(t, model.ntk, model.nngp, model.y)
    parts = [flow(t, model.ntk, model.nngp, y) for y in (0.3 * model.y, 0.7 * model.y)]
    assert_close(parts[0].mean + parts[1].mean, whole.mean)
    assert_close(flow(t, model.ntk, model.nngp, model.y[:, 0]).mean, whole.mean[:, 0])
    order, tests = np.random.default_rng(seed).permutation(P), np.random.default_rng(seed).permutation(R)
    ntk, nngp = (
        Blocks(k.train[np.ix_(order, order)], k.cross[np.ix_(tests, order)], k.test[np.ix_(tests, tests)])
        for k in (model.ntk, model.nngp)
    )
    moved = flow(t, ntk, nngp, model.y[order])
    assert_close(moved.mean, whole.mean[tests])
    assert_close(moved.covariance, whole.covariance[np.ix_(tests, tests)])


@given(seeds, times)
def test_null_directions_stay_where_they_started(seed, t):
    """Fewer weights than training points: the targets are projected, and nothing is divided by rounding."""
    model = Linear(seed, weights=2)
    end = flow(jnp.inf, model.ntk, model.nngp, model.y)
    assert_close(end.mean, model.x_test @ np.linalg.pinv(model.x) @ model.y, 1e3)
    # Both weights are determined by the data: no start is remembered, whatever its covariance.
    np.testing.assert_allclose(end.covariance, 0, atol=1e-8)
    null = scipy.linalg.null_space(model.x.T)
    own, prior = Blocks.on_training_points(model.ntk.train), Blocks.on_training_points(model.nngp.train)
    mean = flow(t, own, prior, model.y).mean
    np.testing.assert_allclose(null.T @ mean, 0, atol=1e-12)


@given(seeds, times, ridges, losses)
def test_small_steps_approach_the_flow_with_their_leading_error(seed, t, ridge, loss):
    lam = np.append(np.random.default_rng(seed).uniform(0.1, 3, 4), 0.0)
    c = {"mean_half": 1 / P, "sum_half": 1.0, "mean": 2 / P}[loss]
    rate, steps = c * lam + ridge, 20_000
    lr = t / steps if t else 1.0
    leading = c * rate * t * lr / 2 * np.exp(-rate * t)
    found = descent_modes(steps if t else 0, lam, P, lr, loss, ridge) - flow_modes(t, lam, P, loss, ridge)
    # The next order is lr^2 (rate^3 t / 3 + rate^4 t^2 / 8) / rate; the rounding of a difference of order t.
    np.testing.assert_allclose(
        found, leading, atol=1e-14 * (1 + t), rtol=float(np.max(lr * rate * (1 + rate * t / 2))) + 1e-12
    )


def test_descent_filter_at_every_step_size():
    """Against the sum of (1 - x)^j, which has no cancellation below 1 and few terms above."""
    x = np.array([0.0, 1e-300, 1e-9, 9.99e-4, 1.001e-3, 0.3, 0.4999, 0.5001, 1.0, 1.7, 2.0])
    for steps in (0, 1, 2, 37):
        expected = np.sum((1 - x[:, None]) ** np.arange(steps), axis=1)
        np.testing.assert_allclose(descent_modes(steps, x, 1, 1.0), expected, rtol=1e-13, atol=1e-14)
    slope = jax.vmap(jax.grad(lambda x: descent_modes(37, x, 1, 1.0)))(x)
    j = np.arange(1, 37)
    np.testing.assert_allclose(slope, -np.sum(j * (1 - x[:, None]) ** (j - 1), axis=1), rtol=1e-11, atol=1e-11)


def test_filters_at_infinity():
    lam = np.array([0.0, 1e-9, 0.5, 3.0])
    end = np.array([0.0, 1e9, 2.0, 1 / 3])
    np.testing.assert_allclose(flow_modes(jnp.inf, lam, P), end, rtol=1e-14)
    np.testing.assert_allclose(descent_modes(jnp.inf, lam, P, 1.0), end, rtol=1e-14)
    np.testing.assert_allclose(flow_modes(jnp.inf, lam, P, ridge=0.2), 1 / (lam + 0.2 * P), rtol=1e-14)
    # Beyond the edge of stability nothing converges.
    assert not abs(float(descent_modes(jnp.inf, 3.0, 1, 1.0))) < 1e300


@given(seeds, losses, ridges)
def test_the_largest_stable_step_is_an_edge(seed, loss, ridge):
    lam = float(np.random.default_rng(seed).uniform(0.1, 5))
    lr = float(largest_stable_lr(lam, P, loss, ridge))
    inside, outside = (descent_modes(np.array([0, 1, 4001]), lam, P, scale * lr, loss, ridge) for scale in (0.99, 1.01))
    end = flow_modes(jnp.inf, lam, P, loss, ridge)
    assert abs(inside[2] - end) < 1e-8 * end and abs(outside[2] - end) > 1e8 * end


@given(seeds, st.sampled_from([0.02, 0.5]))
def test_readout_training_samples_the_posterior(seed, noise):
    """With a ridge, and noise of that variance on the targets of every network; without both too."""
    model = Linear(seed)
    end = flow(jnp.inf, model.nngp, model.nngp, model.y, loss="sum_half", ridge=noise, noise=noise)
    bayes = posterior(model.nngp, model.y, noise)
    assert_close(end.mean, bayes.mean)
    assert_close(end.covariance, bayes.covariance)
    k, cross = model.nngp.train + noise * np.eye(P), model.nngp.cross
    assert_close(bayes.mean, cross @ np.linalg.solve(k, model.y))
    assert_close(bayes.covariance, model.nngp.test - cross @ np.linalg.solve(k, cross.T))
    rounding = 1e-12 * np.linalg.cond(model.nngp.train)
    end, bayes = flow(jnp.inf, model.nngp, model.nngp, model.y), posterior(model.nngp, model.y, 0.0)
    np.testing.assert_allclose(end.mean, bayes.mean, rtol=1e-12)
    np.testing.assert_allclose(end.covariance, bayes.covariance, atol=rounding)


NETWORK = dict(depth=2, activation="erf", weight_variance=1.5, bias_variance=0.1)


def test_prediction_from_inputs():
    rng = np.random.default_rng(0)
    x, x_test, y = rng.normal(size=(P, 3)), rng.normal(size=(R, 3)), rng.normal(size=P)
    t = np.array([0.0, 2.0, 50.0, np.inf])
    found = prediction(t, x, y, x_test, **NETWORK)
    assert found.mean.shape == (4, R) and found.covariance.shape == (4, R, R)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turned = prediction(t, x @ turn, y, x_test @ turn, **NETWORK)
    rounding = 1e-14 * np.linalg.cond(input_blocks(x, x_test, **NETWORK)[0].train)
    np.testing.assert_allclose(turned.mean, found.mean, atol=10 * rounding)
    np.testing.assert_allclose(turned.covariance, found.covariance, atol=10 * rounding)
    # A training point among the test points ends on its target, without variance.
    again = prediction(np.inf, x, y, np.concatenate([x[1:2], x_test[:2]]), **NETWORK)
    np.testing.assert_allclose(again.mean[0], y[1], atol=10 * rounding)
    np.testing.assert_allclose(again.covariance[0], 0, atol=10 * rounding)
    readout = prediction(np.inf, x, y, x_test, readout_only=True, **NETWORK)
    bayes = nngp_posterior(input_blocks(x, x_test, **NETWORK)[1], y)
    np.testing.assert_allclose(readout.mean, bayes.mean, rtol=1e-11)
    assert np.abs(readout.mean - found.mean[-1]).max() > 1e-3


def test_gradients_are_finite():
    model = Linear(0)

    def summed(t, y, ridge):
        outputs = flow(t, model.ntk, model.nngp, y, ridge=ridge)
        return jnp.sum(outputs.mean) + jnp.sum(outputs.covariance)

    for t in (0.0, 3.0, jnp.inf):
        for ridge in (0.0, 0.1):
            assert all(np.isfinite(g).all() for g in jax.grad(summed, argnums=(0, 1, 2))(t, model.y, ridge))
    slope = jax.grad(lambda lam: flow_modes(2.0, lam, 1))(0.0)
    np.testing.assert_allclose(slope, -2.0, rtol=1e-14)


MODEL = Linear(1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: flow_outputs(-1.0, m.ntk, m.nngp, m.y), "^t must be non-negative, got -1.0"),
        (lambda m: flow_outputs(jnp.nan, m.ntk, m.nngp, m.y), "^t must be non-negative, got nan"),
        (lambda m: flow_outputs(1.0, m.ntk, m.nngp, m.y[:-1]), "^y must have shape"),
        (lambda m: flow_outputs(1.0, m.ntk, m.nngp, m.y, loss="half"), "^loss must be one of .*got 'half'"),
        (lambda m: flow_outputs(1.0, m.ntk, m.nngp, m.y, ridge=-0.1), "^ridge must be non-negative"),
        (lambda m: flow_outputs(1.0, m.ntk, m.nngp, m.y, noise=-0.1), "^noise must be non-negative"),
        (lambda m: flow_outputs(1.0, m.ntk, Blocks(m.nngp.train, m.nngp.cross[:1], m.nngp.test), m.y), "^nngp.cross"),
        (lambda m: flow_outputs(1.0, m.ntk._replace(cross=m.ntk.cross.T), m.nngp, m.y), "^ntk.train must be a matrix"),
        (lambda m: flow_outputs(1.0, m.ntk._replace(train=np.triu(m.ntk.train)), m.nngp, m.y), "must be symmetric"),
        (lambda m: flow_outputs(1.0, Blocks(*(-k for k in m.ntk)), m.nngp, m.y), "^ntk must be positive semi-definite"),
        (lambda m: descent_outputs(2.5, 0.1, m.ntk, m.nngp, m.y), "^steps must be whole numbers, got 2.5"),
        (lambda m: descent_outputs(2, 0.0, m.ntk, m.nngp, m.y), "^lr must be positive"),
        (lambda m: trained_function(np.sqrt, m.ntk, m.y, m.y, m.y), "^start_train and start_test"),
        (lambda m: flow_filter(1.0, 1.0, 0), "^samples must be a whole number"),
        (lambda m: prediction(1.0, m.x, m.y, m.x_test, depth=1, activation="step"), "^activation must have a deriv"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call(MODEL)


def test_any_filter_may_be_given():
    """A filter of 1/(lam + 1) is ridge regression."""
    found = trained_outputs(lambda lam: 1 / (lam + 1), MODEL.nngp, MODEL.nngp, MODEL.y)
    assert_close(found.mean, posterior(MODEL.nngp, MODEL.y, 1.0).mean)
