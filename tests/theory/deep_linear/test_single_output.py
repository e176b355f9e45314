"""One output on finite data: raw weights, what is frozen, the interpolator, symmetries, limits, gradients, refusals."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from theory.deep_linear.modes import mode_strength
from theory.deep_linear.single_output import first_layer, interpolator, network_map, single_output_flow

TIMES = np.array([0.0, 0.4, 1.5, 6.0])
D, P = 4, 2
depths = st.sampled_from([1, 2, 3])
all_depths = st.sampled_from([1, 2, 3, 4, 7, 30])
seeds = st.integers(0, 2**32 - 1)

path = jax.jit(single_output_flow, static_argnames="depth")
end = jax.jit(interpolator, static_argnames="depth")


def problem(seed):
    """Fewer samples than dimensions, with curvatures of order one, and a start of size 0.05 to 2."""
    rng = np.random.default_rng(seed)
    x = np.linalg.qr(rng.standard_normal((D, P)))[0] * rng.uniform(0.7, 1.4, P)
    w0 = rng.standard_normal(D)
    return rng.uniform(0.05, 2) * w0 / np.linalg.norm(w0), x, rng.standard_normal(P)


def balanced_layers(w0, depth, hidden=2):
    """Raw weights of rank one and equal norm whose product is w0, with hidden layers wider than need be."""
    rng = np.random.default_rng(5)
    size = np.linalg.norm(w0)
    inner = [v / np.linalg.norm(v) for v in rng.standard_normal((depth - 1, hidden))]
    ends = [w0 / size, *inner, np.ones(1)]
    return [size ** (1 / depth) * np.outer(ends[i + 1], ends[i]) for i in range(depth)]


def raw(t, w0, x, y, depth):
    """All layers by brute force under the loss 1/2 |y - X^T w|^2: (layers, maps) at each time."""
    start = balanced_layers(w0, depth)
    shapes = [layer.shape for layer in start]
    cuts = np.cumsum([layer.size for layer in start])[:-1]

    def layers(flat):
        return [part.reshape(shape) for part, shape in zip(np.split(flat, cuts), shapes, strict=True)]

    def product(some):
        return np.linalg.multi_dot(some[::-1]) if len(some) > 1 else some[0]

    def field(_, flat):
        all_layers = layers(flat)
        slope = (x @ (y - x.T @ product(all_layers)[0]))[None]
        down = []
        for i in range(depth):
            above = product(all_layers[i + 1 :]) if i + 1 < depth else np.eye(1)
            below = product(all_layers[:i]) if i else np.eye(D)
            down.append((above.T @ slope @ below.T).ravel())
        return np.concatenate(down)

    flat = np.concatenate([layer.ravel() for layer in start])
    found = solve_ivp(field, (0, t[-1]), flat, t_eval=t, method="DOP853", rtol=1e-12, atol=1e-14).y.T
    return [layers(f) for f in found], np.stack([product(layers(f))[0] for f in found])


@given(seeds, depths)
@settings(max_examples=9)
def test_the_raw_weights(seed, depth):
    w0, x, y = problem(seed)
    layers, maps = raw(TIMES, w0, x, y, depth)
    found = path(TIMES, w0, x @ x.T, x @ y, depth=depth)
    np.testing.assert_allclose(found, maps, rtol=1e-8, atol=1e-10)
    # The layers are what they are said to be, and the first keeps what lies outside of the inputs' span.
    theta = first_layer(found[-1], depth)
    np.testing.assert_allclose(theta @ theta, np.sum(layers[-1][-1] ** 2), rtol=1e-8)
    outside = np.eye(D) - x @ np.linalg.pinv(x)
    np.testing.assert_allclose(outside @ theta, outside @ first_layer(w0, depth), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(layers[-1][0] @ outside, layers[0][0] @ outside, atol=1e-11)


@given(seeds, depths)
def test_the_end_of_long_training(seed, depth):
    w0, x, y = problem(seed)
    w = np.asarray(end(w0, x, y, depth=depth))
    np.testing.assert_allclose(x.T @ w, y, rtol=1e-11, atol=1e-12)
    outside = np.eye(D) - x @ np.linalg.pinv(x)
    np.testing.assert_allclose(
        outside @ first_layer(w, depth), outside @ first_layer(w0, depth), rtol=1e-10, atol=1e-12
    )
    if depth == 1:
        np.testing.assert_allclose(w, x @ np.linalg.pinv(x.T @ x) @ y + outside @ w0, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_flow_ends_at_the_interpolator(depth):
    w0, x, y = problem(0)
    late = path(100 * TIMES, w0, x @ x.T, x @ y, depth=depth)[-1]
    np.testing.assert_allclose(late, end(w0, x, y, depth=depth), rtol=1e-9, atol=1e-10)


@given(seeds, all_depths)
@settings(max_examples=12)
def test_interpolator_of_any_depth(seed, depth):
    w0, x, y = problem(seed)
    w = end(w0, x, y, depth=depth)
    least = x @ np.linalg.solve(x.T @ x, y)
    theta = first_layer(w0, depth)
    frozen = theta - x @ np.linalg.solve(x.T @ x, x.T @ theta)
    r2 = np.sum(w**2)
    np.testing.assert_allclose(w, least + r2 ** (0.5 - 0.5 / depth) * frozen, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(r2, np.sum(least**2) + r2 ** (1 - 1 / depth) * np.sum(frozen**2), rtol=1e-12)


@pytest.mark.parametrize("depth", [2, 3, 7])
def test_small_starts_end_at_the_least_norm(depth):
    w0, x, y = problem(3)
    least = x @ np.linalg.solve(x.T @ x, y)
    np.testing.assert_allclose(interpolator(1e-12**depth * w0, x, y, depth), least, atol=1e-11)
    # A linear memory of the first layer: the frozen part is |least|^{1 - 1/N} theta to leading order.
    small = interpolator(1e-6**depth * w0, x, y, depth) - least
    theta = first_layer(1e-6**depth * w0, depth)
    frozen = theta - x @ np.linalg.solve(x.T @ x, x.T @ theta)
    np.testing.assert_allclose(small, np.linalg.norm(least) ** (1 - 1 / depth) * frozen, atol=1e-15)


@given(seeds, all_depths, st.floats(1e-3, 1e3))
def test_layers_and_maps_are_inverses(seed, depth, c):
    w = c * problem(seed)[0]
    theta = first_layer(w, depth)
    np.testing.assert_allclose(network_map(theta, depth), w, rtol=1e-13)
    np.testing.assert_allclose(np.linalg.norm(theta), np.linalg.norm(w) ** (1 / depth), rtol=1e-13)
    np.testing.assert_allclose(first_layer(2**depth * w, depth), 2 * theta, rtol=1e-13)
    np.testing.assert_allclose(
        network_map(np.stack([theta, 2 * theta]), depth), np.stack([w, 2**depth * w]), rtol=1e-13
    )


@given(seeds)
def test_one_layer_in_closed_form(seed):
    w0, x, y = problem(seed)
    best = np.linalg.pinv(x.T) @ y
    expected = [best + scipy.linalg.expm(-x @ x.T * t) @ (w0 - best) for t in TIMES]
    # w0 outside of the span stays: expm is the identity there.
    outside = best - x @ np.linalg.pinv(x) @ best
    np.testing.assert_allclose(outside, 0, atol=1e-14)
    np.testing.assert_allclose(path(TIMES, w0, x @ x.T, x @ y, depth=1), expected, rtol=1e-9, atol=1e-11)


@given(depths, st.floats(0.05, 1), st.floats(0.3, 2), st.floats(0.3, 2))
def test_along_one_direction_of_white_inputs_it_is_the_mode(depth, u0, s, lam):
    direction = np.array([0.6, -0.48, 0.64, 0.0])
    found = path(TIMES, u0 * direction, lam * np.eye(D), s * direction, depth=depth)
    expected = np.asarray(mode_strength(TIMES, s, u0, lam, depth))[:, None] * direction
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


@given(seeds, depths)
def test_symmetries(seed, depth):
    w0, x, y = problem(seed)
    w = np.asarray(path(TIMES, w0, x @ x.T, x @ y, depth=depth))
    turn = np.linalg.qr(np.random.default_rng(seed + 1).standard_normal((D, D)))[0]
    close = dict(rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(
        path(TIMES, turn @ w0, turn @ x @ x.T @ turn.T, turn @ x @ y, depth=depth), w @ turn.T, **close
    )
    np.testing.assert_allclose(path(TIMES, -w0, x @ x.T, -x @ y, depth=depth), -w, **close)
    # Labels and maps in units of c = 2^N: time in units of c^{2 - 2/N} / c^0 = 4^{N-1}; inputs in units of 2: 4.
    c, unit = 2.0**depth, 4.0 ** (depth - 1)
    np.testing.assert_allclose(path(TIMES / unit, c * w0, x @ x.T, c * x @ y, depth=depth), c * w, **close)
    np.testing.assert_allclose(path(TIMES / 4, w0, 4 * x @ x.T, 4 * x @ y, depth=depth), w, **close)
    np.testing.assert_allclose(w[0], w0, rtol=1e-14)


@given(seeds, depths)
def test_semigroup_and_falling_loss(seed, depth):
    w0, x, y = problem(seed)
    whole = path(TIMES, w0, x @ x.T, x @ y, depth=depth)
    rest = path(np.array([0.0, 1.0, 2.0, 4.5]), whole[2], x @ x.T, x @ y, depth=depth)
    np.testing.assert_allclose(rest[-1], whole[-1], rtol=1e-9, atol=1e-10)
    loss = np.sum((y - whole @ x) ** 2, axis=1)
    assert (np.diff(loss) <= 1e-12).all()


@partial(jax.jit, static_argnums=4)
def slopes(w0, sxx, syx, t, depth):
    return jax.jacrev(lambda *given: single_output_flow(t, *given, depth).sum(), argnums=(0, 1, 2))(w0, sxx, syx)


@pytest.mark.slow
def test_gradients_of_the_flow():
    (w0, x, y), depth = problem(2), 3
    sxx, syx = x @ x.T, x @ y
    found = slopes(w0, sxx, syx, TIMES, depth)
    assert all(np.isfinite(f).all() for f in found)
    h = 1e-5
    for i in range(2):
        e = h * np.eye(D)[i]
        plus, minus = (path(TIMES, w0 + sign * e, sxx, syx, depth=depth).sum() for sign in (1, -1))
        # h^2 times a third derivative of order ten, and the integrator's 1e-12 over h.
        np.testing.assert_allclose(found[0][i], (plus - minus) / (2 * h), rtol=1e-6, atol=1e-6)
    # No target at all and a start that decays: finite too.
    assert all(np.isfinite(f).all() for f in slopes(w0, sxx, np.zeros(D), TIMES, depth))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_gradients_of_the_ends(depth):
    def total(w0, y):
        return jnp.sum(interpolator(w0, x, y, depth) * jnp.arange(1.0, 1 + D))

    w0, x, y = problem(4)
    slope = jax.jit(jax.grad(total, argnums=(0, 1)))
    found, h = slope(w0, y), 1e-5
    plus, minus = (total(w0, y + sign * h * np.eye(P)[0]) for sign in (1, -1))
    np.testing.assert_allclose(found[1][0], (plus - minus) / (2 * h), rtol=1e-7)
    plus, minus = (total(w0 + sign * h * np.eye(D)[1], y) for sign in (1, -1))
    np.testing.assert_allclose(found[0][1], (plus - minus) / (2 * h), rtol=1e-7)
    # Labels of zero, a start within the span, both: no digits are promised, but numbers.
    for start, labels in ((w0, 0 * y), (x[:, 0], y)):
        assert all(np.isfinite(g).all() for g in slope(start, labels))
    assert np.isfinite(jax.jacrev(lambda theta: network_map(theta, depth))(jnp.zeros(D))).all()
    # Nothing to learn: with labels of zero only what is frozen is left, scaled by the layers above.
    theta = first_layer(w0, depth)
    frozen = theta - x @ np.linalg.solve(x.T @ x, x.T @ theta)
    np.testing.assert_allclose(interpolator(w0, x, 0 * y, depth), network_map(frozen, depth), rtol=1e-12, atol=1e-15)


def test_float32():
    w0, x, y = problem(6)
    single = [np.float32(a) for a in (TIMES, w0, x @ x.T, x @ y)]
    found = path(*single, depth=2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, path(TIMES, w0, x @ x.T, x @ y, depth=2), atol=1e-4)


GOOD = (TIMES, np.ones(D), np.eye(D), np.ones(D))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: single_output_flow(-TIMES, *GOOD[1:], 2), "t"),
        (lambda: single_output_flow(TIMES[::-1], *GOOD[1:], 2), "t"),
        (lambda: single_output_flow(TIMES, np.zeros(D), *GOOD[2:], 2), "w0"),
        (lambda: single_output_flow(*GOOD[:2], np.full((D, D), np.nan), np.ones(D), 2), "sxx"),
        (lambda: single_output_flow(*GOOD[:3], np.full(D, np.inf), 2), "syx"),
        (lambda: single_output_flow(*GOOD, 0), "depth"),
        (lambda: first_layer(np.zeros(3), 2), "w"),
        (lambda: network_map(np.full(3, np.nan), 2), "theta"),
        (lambda: interpolator(np.ones(2), np.ones((2, 3)), np.ones(3), 2), "x"),
        (lambda: interpolator(np.ones(2), np.ones((2, 1)), np.full(1, np.nan), 2), "y"),
    ],
)
def test_refusals_name_the_argument(call, named):
    with pytest.raises(ValueError, match=rf"^{named} must"):
        call()
