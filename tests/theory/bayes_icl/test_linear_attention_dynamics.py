"""Learning of linear attention: automatic slopes, closed forms against flows, saddles, conservation, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp

from theory.bayes_icl.linear_attention import Prompts, layer_risk, optimal_layer, optimal_risk
from theory.bayes_icl.linear_attention_dynamics import (
    MergedHeads,
    SeparateHeads,
    abrupt_drop,
    growing_start,
    head_time,
    heads_flow,
    plateau_losses,
    white_drop,
    white_half_time,
)

D, N = 3, 8
VARIANCES, TASKS, NOISE = np.array([1.2, 0.7, 0.4]), np.array([1.0, 0.5, 2.0]), 0.2
LAW = Prompts(np.diag(VARIANCES), TASKS, NOISE)
RNG = np.random.default_rng(0)
SKEW = RNG.normal(size=(D, D))
CORRELATED = Prompts(SKEW @ SKEW.T / D + 0.2 * np.eye(D), TASKS, NOISE)
# As many times everywhere: each kind of heads is compiled once.
T = np.linspace(0, 12, 97)


def merged(scale, heads=2, seed=1):
    rng = np.random.default_rng(seed)
    return MergedHeads(scale * rng.normal(size=heads), scale * rng.normal(size=(heads, D, D)))


def separate(scale, heads=3, seed=2):
    rng = np.random.default_rng(seed)
    return SeparateHeads(*(scale * rng.normal(size=shape) for shape in ((heads,), (heads, D), (heads, D))))


def by_scipy(start, law, t):
    """The flow by another integrator, slopes by automatic differentiation of the risk."""
    shapes = [np.shape(part) for part in start]
    cuts = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]

    def heads(flat):
        return type(start)(*(jnp.reshape(x, shape) for x, shape in zip(jnp.split(flat, cuts), shapes, strict=True)))

    slope = jax.jit(jax.grad(lambda flat: layer_risk(heads(flat).layer, law, N)))
    flat = np.concatenate([np.ravel(part) for part in start])
    found = solve_ivp(
        lambda _, z: -np.asarray(slope(jnp.asarray(z))), (0, t[-1]), flat, "DOP853", t, rtol=1e-7, atol=1e-9
    )
    return jax.vmap(heads)(jnp.asarray(found.y.T))


@pytest.mark.parametrize("start", [merged(0.3), separate(0.5)], ids=["merged", "separate"])
def test_flow_follows_the_slope_of_the_risk(start):
    found = heads_flow(T, start, CORRELATED, N)
    expected = by_scipy(start, CORRELATED, T)
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)
    losses = risks(found.layer, CORRELATED)
    assert (np.diff(losses) < 1e-12).all()
    # Balance is conserved: each head's value against its matrix, or its vectors against one another.
    parts = [np.asarray(part).reshape(len(T), len(start.values), -1) for part in found]
    squares = [np.sum(part**2, axis=-1) for part in parts]
    for one in squares[1:]:
        np.testing.assert_allclose(one - squares[0], np.broadcast_to((one - squares[0])[0], one.shape), atol=1e-8)


def test_merged_heads_end_at_the_best_layer():
    end = heads_flow(25 * T, merged(1e-2), CORRELATED, N)
    np.testing.assert_allclose(end.layer[-1], optimal_layer(CORRELATED, N), rtol=1e-5, atol=1e-5)


def test_layers_as_they_read():
    """f = sum_h v_h g^T U_h x = x^T A g, and the same for keys and queries."""
    g, x = RNG.normal(size=(2, D))
    m, s = merged(1.0), separate(1.0)
    np.testing.assert_allclose(x @ m.layer @ g, sum(v * g @ u @ x for v, u in zip(*m, strict=True)))
    expected = sum(v * (k @ g) * (q @ x) for v, k, q in zip(*s, strict=True))
    np.testing.assert_allclose(x @ s.layer @ g, expected)


risks = jax.jit(lambda layers, law: jax.vmap(lambda a: layer_risk(a, law, N))(layers))


def half_way(t, layers, law):
    """When the risk has fallen half of its way."""
    losses = np.asarray(risks(layers, law))
    least = float(optimal_risk(law, N))
    return np.interp(-(losses[0] + least) / 2, -losses, t)


@pytest.mark.parametrize("law", [LAW, CORRELATED], ids=["diagonal", "correlated"])
def test_any_small_heads_drop_as_balanced_ones(law):
    start = merged(1e-3)
    exact = heads_flow(T, start, law, N).layer
    found = abrupt_drop(T, growing_start(start, law), law, N)
    np.testing.assert_allclose(half_way(T, found, law), half_way(T, exact, law), rtol=2e-3)
    # All along, but the orthogonal part, which does not grow.
    np.testing.assert_allclose(found[24:], exact[24:], atol=0.02)


def test_white_inputs():
    """The closed form is the flow, and its half-time is when it says."""
    d, s, w, noise, p0, t = D, 0.6, 1.5, 0.3, 1e-3, T
    law = Prompts(np.full(d, s), w, noise)
    p = white_drop(t, p0, d, s, N, w, noise)
    layers = abrupt_drop(t, p0, law, N)
    np.testing.assert_allclose(layers, p[:, None, None] * np.eye(d) / np.sqrt(d), rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(p[0], p0)
    end = white_drop(1e6, p0, d, s, N, w, noise)
    np.testing.assert_allclose(end * np.eye(d) / np.sqrt(d), optimal_layer(law, N), rtol=1e-10, atol=1e-12)
    half = white_half_time(p0, d, s, N, w, noise)
    np.testing.assert_allclose(white_drop(half, p0, d, s, N, w, noise), end / 2, rtol=1e-10)
    assert np.isfinite(white_drop(np.array([0.0, 1e300]), 1e-300, d, s, N)).all()
    # A start ten times smaller is later by a constant.
    later = white_half_time(p0 / 10, d, s, N, w) - white_half_time(p0, d, s, N, w)
    np.testing.assert_allclose(later, np.log(10) / (4 * np.sqrt(d) * s**2 * w), rtol=1e-3)


def test_plateaus():
    """Values from another program; the ends; each plateau is a minimum without the other directions."""
    known = plateau_losses(np.array([0.4, 0.3, 0.2, 0.1]), 31)
    np.testing.assert_allclose(known, [1, 0.64058, 0.37737, 0.20980, 0.13600], atol=1e-5)
    found = plateau_losses(VARIANCES, N, TASKS, NOISE)
    np.testing.assert_allclose(found[0], layer_risk(np.zeros((D, D)), LAW, N), rtol=1e-12)
    np.testing.assert_allclose(found[-1], optimal_risk(LAW, N), rtol=1e-12)
    assert (np.diff(found) < 0).all()
    for m in range(1, D):
        used = np.arange(D) < m
        layer = jnp.diag(jnp.where(used, jnp.diagonal(optimal_layer(LAW, N)), 0.0))
        np.testing.assert_allclose(layer_risk(layer, LAW, N), found[m], rtol=1e-12)
        # Entries that pull are those of no head: separate heads are at rest.
        slope = jax.grad(layer_risk)(layer, LAW, N)
        assert np.abs(slope[used]).max() < 1e-12 < np.abs(slope[~used]).max()


@given(st.floats(1e-3, 0.1), st.floats(0.2, 0.95))
def test_head_times_by_quadrature(u0, share):
    """Integral of du over its speed, the speed from the risk of one head."""
    found = head_time(share, u0, VARIANCES, N, TASKS, NOISE)
    for a in range(D):
        curvature = 1 + 1 / N
        total = VARIANCES @ TASKS + NOISE
        brake = VARIANCES[a] * (curvature * VARIANCES[a] * TASKS[a] + total / N)
        end = np.cbrt(VARIANCES[a] * TASKS[a] / brake)

        def slowness(log_u, a=a, brake=brake):
            u = np.exp(log_u)
            return 1 / (2 * u * VARIANCES[a] * (VARIANCES[a] * TASKS[a] - brake * u**3))

        expected, _ = quad(slowness, np.log(u0), np.log(share * end), epsrel=1e-11)
        np.testing.assert_allclose(found[a], expected, rtol=1e-9)


def test_aligned_heads_learn_one_after_the_other():
    """Heads on principal directions obey their closed form in the full flow, and wait as 1 / start."""
    u0 = np.array([0.05, 0.08, 0.06])
    start = SeparateHeads(u0, np.diag(u0), np.diag(u0))
    shares = np.array([0.3, 0.5, 0.8])
    expected = head_time(shares[:, None], u0, VARIANCES, N, TASKS, NOISE)
    order = np.argsort(np.ravel(expected))
    times = np.ravel(expected)[order]
    found = heads_flow(np.concatenate([times, times[-1] + T[1:-8]]), start, LAW, N)
    best = np.diagonal(optimal_layer(LAW, N))
    place, direction = np.divmod(order, D)
    reached = np.diagonal(found.layer, axis1=1, axis2=2)[np.arange(len(order)), direction] / best[direction]
    np.testing.assert_allclose(reached, shares[place] ** 3, rtol=1e-6)
    waits = head_time(0.5, 1e-9, VARIANCES, N, TASKS, NOISE)
    np.testing.assert_allclose(waits, 1 / (2 * VARIANCES**2 * TASKS * 1e-9), rtol=1e-6)


def test_what_grows():
    """Turning all signs changes nothing; opposite signs do not grow; heads add."""
    v, u = merged(0.1)
    np.testing.assert_allclose(growing_start((-v, -u), LAW), growing_start((v, u), LAW))
    c = np.diag(VARIANCES**2 * TASKS)
    aligned = MergedHeads(np.array([0.3]), 0.3 * c[None] / np.linalg.norm(c))
    np.testing.assert_allclose(growing_start(aligned, LAW), 0.09)
    np.testing.assert_allclose(growing_start(aligned._replace(values=-aligned.values), LAW), 0, atol=1e-15)
    parts = [growing_start((v[h : h + 1], u[h : h + 1]), LAW) for h in range(2)]
    np.testing.assert_allclose(growing_start((v, u), LAW), sum(parts))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: heads_flow(T, MergedHeads(np.ones(2), np.ones((1, D, D))), LAW, N), "scores must have shape"),
        (
            lambda: heads_flow(T, SeparateHeads(np.ones(2), np.ones((2, D)), np.ones((2, 2))), LAW, N),
            "queries must",
        ),
        (lambda: heads_flow(T[::-1], merged(0.1), LAW, N), "t must increase"),
        (lambda: heads_flow(T, merged(0.1), LAW, 0.0), "context must be at least 1"),
        (lambda: growing_start((np.ones(1), np.full((1, D, D), np.nan)), LAW), "scores must be finite"),
        (lambda: abrupt_drop(T, 0.0, LAW, N), "start must be positive"),
        (lambda: white_drop(1.0, -0.1, 2, 1.0, N), "start must be positive"),
        (lambda: white_drop(1.0, 0.1, 0, 1.0, N), "dimension must be a whole number"),
        (lambda: white_half_time(9.0, 2, 1.0, N), "start must be below the best layer's p"),
        (lambda: plateau_losses(np.array([1.0, 0.0]), N), "variances must be positive"),
        (lambda: plateau_losses(VARIANCES, N, np.ones(2)), "variances and tasks must have shapes"),
        (lambda: head_time(1.0, 0.1, VARIANCES, N), "share must lie between 0 and 1"),
        (lambda: head_time(0.1, 2.0, VARIANCES, N), "start must be below the share"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
