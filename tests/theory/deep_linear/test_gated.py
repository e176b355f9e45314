"""Gated pathways: the general gradient, the routing network in raw weights, the quadrature and its inverse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from sims.networks.gated import Routing, SharedAndOwn, contexts_loss, ring, routing_loss
from theory.deep_linear.gated import (
    pathway_flow,
    pathway_strengths,
    pathway_time,
    pathway_velocity,
    routing_domains,
    routing_plateau,
    routing_rates,
    routing_strengths,
)
from theory.deep_linear.modes import mode_strength
from theory.deep_linear.unbalanced import two_layer_strengths

strengths, learned = jax.jit(pathway_strengths), jax.jit(pathway_time)
seeds = st.integers(0, 10**6)


def pathway(seed, layers):
    """(s, b0, rates) with layers of quite different starts and rates; above or below their end."""
    rng = np.random.default_rng(seed)
    return np.exp(rng.uniform(-1, 2)), np.exp(rng.uniform(-4, 0.5, layers)), np.exp(rng.uniform(-2, 1, layers))


def integrated(t, s, b0, rates):
    def velocity(_, b):
        return rates * np.prod(b) / b * (s - np.prod(b))

    return solve_ivp(velocity, (0, t[-1]), b0, method="DOP853", rtol=1e-13, atol=1e-16, t_eval=t).y.T


@given(seeds, st.sampled_from([2, 3]))
def test_against_integration(seed, layers):
    s, b0, rates = pathway(seed, layers)
    # As long as the growth is at its fastest: rounding of t and the integrator grow with t s.
    t = np.linspace(0, 1.5 * float(learned(0.8, s, b0, rates)) + 1.0, 9)
    np.testing.assert_allclose(strengths(t, s, b0, rates), integrated(t, s, b0, rates), rtol=1e-9)


@given(seeds, st.sampled_from([2, 3]), st.floats(0.05, 0.999))
def test_time_and_strength_are_inverse(seed, layers, fraction):
    s, b0, rates = pathway(seed, layers)
    t = learned(fraction, s, b0, rates)
    u = strengths(t, s, b0, rates).prod()
    assert (t == 0 and u >= fraction * s * (1 - 1e-12)) or abs(u / (fraction * s) - 1) < 1e-10


@given(seeds, st.sampled_from([2, 3]), st.floats(0.01, 50), st.floats(0.01, 50))
def test_semigroup_and_conservation(seed, layers, t1, t2):
    s, b0, rates = pathway(seed, layers)
    first = strengths(t1, s, b0, rates)
    np.testing.assert_allclose(strengths(t2, s, first, rates), strengths(t1 + t2, s, b0, rates), rtol=1e-9)
    gaps = (first**2 - b0**2) / rates
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-9, atol=1e-12 * np.max(b0**2 / rates))


@given(st.floats(0, 30), st.floats(0.2, 5), st.floats(-6, 0), st.floats(-6, 0), st.floats(0.1, 3))
def test_shared_limits(t, s, e1, e2, rate):
    a0, b0 = 10.0**e1, 10.0**e2
    both, equal = two_layer_strengths(rate * t, a0, b0, s), np.full(2, rate)
    np.testing.assert_allclose(strengths(t, s, np.array([a0, b0]), equal), [both.a, both.b], rtol=1e-10)
    u = strengths(t, s, np.full(2, np.sqrt(a0)), equal).prod()
    np.testing.assert_allclose(u, mode_strength(rate * t, s, a0), rtol=1e-11)


def test_long_times_and_the_start():
    b0, rates = np.array([0.1, 1e-6, 0.2]), np.array([1.0, 2.0, 1.0])
    np.testing.assert_allclose(strengths(0.0, 1.3, b0, rates), b0, rtol=1e-13)
    np.testing.assert_allclose(strengths(1e300, 1.3, b0, rates).prod(), 1.3, rtol=1e-13)


slopes = jax.jit(jax.jacfwd(pathway_strengths, argnums=(0, 1, 2, 3)))


@pytest.mark.parametrize("t", [0.0, 2.0, 1e9])
@pytest.mark.parametrize("b0", [np.full(3, 0.2), np.full(3, 1.0), np.array([1e-6, 0.3, 3.0])])
def test_gradients(t, b0):
    s, rates = 1.0, np.array([0.1, 0.5, 0.1])
    found = slopes(t, s, b0, rates)
    assert all(np.isfinite(g).all() for g in found)
    h = 1e-4
    expected = (strengths(t, s * (1 + h), b0, rates) - strengths(t, s * (1 - h), b0, rates)) / (2 * s * h)
    # Second-order differences.
    np.testing.assert_allclose(found[1], expected, rtol=1e-4, atol=1e-7)
    expected = [
        (strengths(t, s, b0 * (1 + h * e), rates) - strengths(t, s, b0 * (1 - h * e), rates)) / 2 / h for e in np.eye(3)
    ]
    np.testing.assert_allclose(found[2] * b0, np.transpose(expected), rtol=1e-4, atol=1e-7)


def test_routing_against_raw_weights():
    domains, partners, s, b0, hidden = 3, 2, np.array([1.4, 0.8]), 0.4, 4
    rng = np.random.default_rng(0)
    right, left, r1, r2 = (np.linalg.qr(rng.normal(size=(n, 2)))[0] for n in (3, 5, hidden, hidden))
    into, shared, out = b0 * r1 @ right.T, b0 * r2 @ r1.T, b0 * left @ r2.T
    edges = [into] * domains + [shared] + [out] * domains
    pairs = np.argwhere(np.asarray(ring(domains, partners)))
    paths = [(int(i), domains, domains + 1 + int(o)) for o, i in pairs]
    # Every pair is an example of its own, with Sxx = I, out of M^2.
    syx = [(left * s) @ right.T / domains**2] * len(paths)
    sxx = {(p, p): np.eye(3) / domains**2 for p in range(len(paths))}
    t = np.array([0.0, 5.0, 12.0])
    weights = pathway_flow(t, edges, paths, syx, sxx)
    found = np.stack([[np.prod(x) for x in routing_strengths(t, m, b0, domains, partners)] for m in s], 1)
    for i in range(domains):
        for o in range(domains):  # trained or not
            maps = weights[domains + 1 + o] @ weights[domains] @ weights[i]
            np.testing.assert_allclose(np.einsum("ok,toi,ik->tk", left, maps, right), found, rtol=1e-9)
    full = np.stack([routing_strengths(t, m, b0, domains, partners) for m in s], -1)
    np.testing.assert_allclose(np.linalg.norm(weights[0] @ right, axis=1), full[:, 0], rtol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(weights[domains] @ r1, axis=1), full[:, 1], rtol=1e-9)


domain_strengths = jax.jit(routing_domains)


def test_routing_domains_against_the_reduction_and_a_split_ring():
    t, m, different = np.array([4.0, 3000.0]), 4, np.array([0.1, 0.2, 0.3, 0.4])
    found = domain_strengths(t, 1.2, np.full(m, 0.3), 0.3, np.full(m, 0.3), ring(m, 2))
    reduced = routing_strengths(t, 1.2, 0.3, m, 2)
    # The integrator's tolerance.
    np.testing.assert_allclose(np.stack([found.into[:, 1], found.shared, found.out[:, 2]], 1), reduced, rtol=1e-9)
    # Every output trained with one input only: nothing ties the domains together.
    for partners, zero_shot in ((1, False), (3, True)):
        end = domain_strengths(t, 1.2, different, 0.3, different[::-1] * 0.7, ring(m, partners))
        pairs = end.out[-1][:, None] * end.shared[-1] * end.into[-1]
        assert np.allclose(pairs, 1.2, atol=1e-6) == zero_shot


def test_general_gradient_is_that_of_the_gated_networks():
    rng = np.random.default_rng(2)
    m, x, y = 3, jnp.asarray(rng.normal(size=(2, 6))), jnp.asarray(rng.normal(size=(4, 6)))
    network = Routing(*(jnp.asarray(rng.normal(size=n)) for n in ((m, 5, 2), (5, 5), (m, 4, 5))))
    trained = ring(m, 2)
    slope = jax.grad(routing_loss)(network, x, y, trained)
    pairs = np.argwhere(np.asarray(trained))
    share = 1 / len(pairs)
    edges = [*network.into, network.shared, *network.out]
    velocity = pathway_velocity(
        edges,
        [(int(i), m, m + 1 + int(o)) for o, i in pairs],
        [share * y @ x.T / 6] * len(pairs),
        {(p, p): share * x @ x.T / 6 for p in range(len(pairs))},
    )
    for found, expected in zip(velocity, [*slope.into, slope.shared, *slope.out], strict=True):
        np.testing.assert_allclose(found, -expected, rtol=1e-12, atol=1e-13)
    gate = jnp.eye(m)
    for o in range(m):
        for i in range(m):
            outputs = network(x, gate[i], gate[o])
            np.testing.assert_allclose(outputs[o], network.maps()[o, i] @ x, rtol=1e-12, atol=1e-13)
            assert not np.delete(outputs, o, 0).any()


def test_general_gradient_of_pathways_that_are_open_together():
    rng = np.random.default_rng(3)
    c, x, y = 3, jnp.asarray(rng.normal(size=(2, 6))), jnp.asarray(rng.normal(size=(4, 6)))
    shapes = ((5, 2), (4, 5))
    draw = [jnp.asarray(rng.normal(size=n)) for n in (*shapes, *((c, *n) for n in shapes))]
    network = SharedAndOwn(tuple(draw[:2]), tuple(draw[2:]))
    slope = jax.grad(contexts_loss)(network, x, y)
    # Pathway 0 is open in every context, pathway 1 + i in context i only: overlaps 1, 1/c, 1/c.
    edges = [*network.shared, *network.own[0], *network.own[1]]
    paths = [(0, 1), *((2 + i, 2 + c + i) for i in range(c))]
    sxx, syx = x @ x.T / 6, y @ x.T / 6
    overlaps = {(0, 0): sxx} | {pair: sxx / c for i in range(1, c + 1) for pair in ((0, i), (i, 0), (i, i))}
    velocity = pathway_velocity(edges, paths, [syx] + [syx / c] * c, overlaps)
    expected = [*slope.shared, *slope.own[0], *slope.own[1]]
    for found, gradient in zip(velocity, expected, strict=True):
        np.testing.assert_allclose(found, -gradient, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("domains", "partners"), [(1, 1), (2, 1), (7, 4), (50, 10)])
def test_plateau_is_the_limit_of_small_starts(domains, partners):
    s, rates = 1.5, np.asarray(routing_rates(domains, partners))
    ratio = [
        float(learned(0.5, s, np.full(3, b), rates) / routing_plateau(s, b, domains, partners)) for b in (1e-3, 1e-5)
    ]
    # The correction is b0 / s^(1/3) times a factor of order sqrt(M).
    assert abs(ratio[1] - 1) < 1e-5 * 3 * np.sqrt(domains) and abs(ratio[1] - 1) < 0.05 * abs(ratio[0] - 1)


def test_float32_runs():
    b0 = np.full(3, 0.2, np.float32)
    found = strengths(np.float32(3), np.float32(1.5), b0, b0)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, strengths(3.0, 1.5, b0.astype(float), b0.astype(float)), rtol=1e-5)


ONES = np.ones(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pathway_strengths(-1.0, 1.0, ONES, ONES), "t must be non-negative"),
        (lambda: pathway_strengths(1.0, 0.0, ONES, ONES), "s must be positive"),
        (lambda: pathway_strengths(1.0, 1.0, -ONES, ONES), "b0 must be positive"),
        (lambda: pathway_strengths.__wrapped__(1.0, 1.0, ONES, np.ones(2)), "b0 and rates must be of one shape"),
        (lambda: pathway_time(1.0, 1.0, ONES, ONES), "fraction must lie strictly between 0 and 1"),
        (lambda: routing_rates(0.5, 1), "domains must be at least 1"),
        (lambda: routing_rates(3, 4), "partners must lie between 1 and the number of domains"),
        (lambda: routing_strengths(1.0, 1.0, np.ones(2), 3, 1), "b0 must be one number or of shape"),
        (lambda: pathway_velocity([np.eye(2)], [(1,)], [np.eye(2)], {}), "pathways must name edges from 0 to 0"),
        (lambda: pathway_velocity([np.eye(2)], [(0,)], [], {}), "syx must hold one matrix for each of the 1 pathways"),
    ],
)
def test_refusals_name_the_argument(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


def test_refusal_inside_jit():
    with pytest.raises(Exception, match="s must be positive"):
        strengths(1.0, -1.0, ONES, ONES).block_until_ready()
