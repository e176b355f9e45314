"""Momentum in the linear regime: the optimisers themselves, limits, edges of stability, Newton's equation, refusals."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from theory.kernels.linearised_training import descent_filter, flow_filter, trained_outputs
from theory.kernels.momentum import (
    heavy_ball_filter,
    heavy_ball_flow_filter,
    heavy_ball_mass,
    heavy_ball_stable_lr,
    nesterov_filter,
    nesterov_stable_lr,
    polyak_momentum,
)

P = 5
LAM = np.array([0.0, 1e-13, 0.02, 0.7, 1.0, 4.0])
betas = st.sampled_from([0.0, 0.3, 0.9, 0.99])
steps = st.sampled_from([0, 1, 2, 3, 17, 200])
static = dict(static_argnames=("samples", "loss"))
heavy_ball, nesterov = jax.jit(heavy_ball_filter, **static), jax.jit(nesterov_filter, **static)
inertial, plain, descent = (jax.jit(f, **static) for f in (heavy_ball_flow_filter, flow_filter, descent_filter))


@partial(jax.jit, static_argnames="lookahead")
def optimised(steps, lr, beta, rate, ridge, lookahead):
    """Where `optax.sgd` is in each mode, in the coefficient a of f = f_0 + lam a, from rest."""
    optimiser = optax.sgd(lr, momentum=beta, nesterov=lookahead)

    def step(_, state):
        a, memory = state
        updates, memory = optimiser.update(rate * (LAM * a - 1) + ridge * a, memory)
        return optax.apply_updates(a, updates), memory

    start = jnp.zeros(len(LAM))
    return jax.lax.fori_loop(0, steps, step, (start, optimiser.init(start)))[0]


@given(
    steps, betas, st.floats(0.01, 0.95), st.sampled_from([0.0, 0.1]), st.sampled_from(["mean_half", "sum_half", "mean"])
)
def test_the_filters_are_the_optimisers(k, beta, fraction, ridge, loss):
    c = {"mean_half": 1 / P, "sum_half": 1.0, "mean": 2 / P}[loss]
    for theory, edge, lookahead in ((heavy_ball, heavy_ball_stable_lr, False), (nesterov, nesterov_stable_lr, True)):
        lr = fraction * edge(LAM[-1], P, beta, loss, ridge)
        found = theory(k, LAM, P, lr, beta, loss, ridge)
        expected = optimised(k, lr, beta, c, ridge, lookahead)
        # Rounding of k steps, each amplified by at most the memory 1/(1 - beta).
        scale = np.abs(expected).max() + 1e-300
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-15 * (1 + k) / (1 - beta) * scale)


@given(steps, st.floats(0.01, 3.0))
def test_without_momentum_both_are_descent(k, x):
    for theory in (heavy_ball, nesterov):
        np.testing.assert_allclose(
            theory(k, LAM, P, x, 0.0), descent(k, LAM, P, x), rtol=1e-11, atol=1e-13 * max(1, abs(1 - 0.8 * x)) ** k
        )


@given(st.floats(0.05, 0.97), st.floats(0.1, 5), st.sampled_from(["mean_half", "sum_half", "mean"]))
def test_edges_of_stability(beta, lam, loss):
    for theory, edge in ((heavy_ball, heavy_ball_stable_lr), (nesterov, nesterov_stable_lr)):
        lr = float(edge(lam, P, beta, loss))
        end = plain(jnp.inf, lam, P, loss)
        # Just inside, the root next to -1 or the memory decays; just outside it has grown by 1.005^20000 and more.
        late = 20_001
        inside, outside = (theory(late, lam, P, scale * lr, beta, loss) for scale in (0.98, 1.02))
        assert abs(inside - end) < 1e-6 * end and not abs(outside - end) < 1e6 * end


@given(st.floats(0.02, 1.0), st.floats(1.5, 40))
def test_polyak_momentum_is_the_fastest(slowest, condition):
    """Over the worse of both ends of the spectrum, 400 steps later, against other learning rates and momenta."""
    ends = np.array([slowest, slowest * condition])
    best = polyak_momentum(*ends, 1)

    def left(lr, beta):
        residual = [np.abs(1 - ends * heavy_ball(k, ends, 1, lr, beta)).max() for k in (400, 401)]
        return max(residual)

    optimum = left(*best)
    k, root = 400, float(np.sqrt(best.momentum))
    assert optimum <= 3 * k * root**k + 1e-13
    if optimum > 1e-11:
        for scale in (0.8, 1.25):
            assert left(scale * best.lr, best.momentum) > optimum
        assert left(best.lr, best.momentum * 0.9) > optimum
        assert left(best.lr, 1 - (1 - best.momentum) * 0.7) > optimum


@given(st.floats(0.05, 20), st.sampled_from([0.05, 0.249, 0.25, 0.2501, 3.0]))
def test_inertia_obeys_newtons_equation(t, mass):
    """Relaxing, critical and ringing modes at once; mass h'' + h' + rate h = 1."""
    flow = solve_ivp(
        lambda _, s: np.concatenate([s[6:], (1 - s[6:] - LAM * s[:6]) / mass]),
        (0, t),
        np.zeros(12),
        "DOP853",
        rtol=1e-12,
        atol=1e-13,
    )
    np.testing.assert_allclose(inertial(t, LAM, 1, mass), flow.y[:6, -1], rtol=1e-9, atol=1e-11)


@given(st.floats(0.0, 1e4))
def test_without_inertia_it_is_gradient_flow(t):
    # Behind by mass, once e^{-t/mass} is over; in a mode of rate r by less, or as much ahead: (1 + r t) e^{-r t} mass.
    np.testing.assert_allclose(inertial(t, LAM, 1, 1e-9), plain(t, LAM, 1), atol=1.01e-9, rtol=1e-13)
    np.testing.assert_allclose(inertial(jnp.inf, LAM, 1, 0.3), plain(jnp.inf, LAM, 1), rtol=1e-12)


@pytest.mark.parametrize("mass", [0.05, 0.4])
def test_heavy_ball_follows_its_flow_to_first_order(mass):
    t, deviations = 4.0, []
    for h in (0.02, 0.01, 0.005):
        # (1 + beta) h / (2 (1 - beta)) = mass, with h = lr / (1 - beta).
        beta = (2 * mass - h) / (2 * mass + h)
        lr = h * (1 - beta)
        np.testing.assert_allclose(heavy_ball_mass(lr, beta), mass, rtol=1e-12)
        found = heavy_ball(round(t / h), LAM, 1, lr, beta)
        deviations.append(np.abs(found - inertial(t, LAM, 1, mass)).max())
    np.testing.assert_allclose(np.divide(deviations[:-1], deviations[1:]), 2, rtol=0.1)


@pytest.mark.slow
def test_filters_train_and_have_gradients():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(8, 4))
    k = features @ features.T
    blocks = (k[:5, :5], k[5:, :5], k[5:, 5:])
    found = trained_outputs(
        lambda lam: heavy_ball(np.array([[3], [900]]), lam, 5, 0.2, 0.9), blocks, blocks, features[:5]
    )
    assert found.mean.shape == (2, 3, 4)
    # Four weights, five samples: the targets are linear in the inputs, and so is the end.
    np.testing.assert_allclose(found.mean[1], features[5:], atol=1e-5)
    for function in (lambda v: heavy_ball(50, v, 1, 0.1, 0.9), lambda v: nesterov(50, v, 1, 0.1, 0.9)):
        slopes = jax.vmap(jax.grad(function))(LAM)
        near = (jax.vmap(function)(LAM + 1e-5) - jax.vmap(function)(LAM)) / 1e-5
        np.testing.assert_allclose(slopes, near, rtol=2e-3)
    for t in (0.0, 1.0, 1e3, np.inf):
        slopes = jax.vmap(jax.grad(lambda v, t=t: inertial(t, v, 1, 0.3)))(LAM)
        assert np.isfinite(slopes).all()
    # Where training diverges, powers that are not needed must not spoil the result.
    assert np.isfinite(jax.grad(lambda v: heavy_ball(600, v, 1, 1.0, 0.5))(4.0))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: heavy_ball_filter(1, 1.0, 1, 0.1, 1.0), "^momentum must be below 1, got 1.0"),
        (lambda: nesterov_filter(1, 1.0, 1, 0.1, -0.1), "^momentum must be non-negative"),
        (lambda: heavy_ball_filter(jnp.inf, 1.0, 1, 0.1, 0.5), "^steps must be below"),
        (lambda: heavy_ball_filter(0.5, 1.0, 1, 0.1, 0.5), "^steps must be whole"),
        (lambda: heavy_ball_filter(1, -1.0, 1, 0.1, 0.5), "^lam must be non-negative"),
        (lambda: heavy_ball_flow_filter(1.0, 1.0, 1, 0.0), "^mass must be positive"),
        (lambda: polyak_momentum(2.0, 1.0, 1), "^fastest must be at least slowest"),
        (lambda: polyak_momentum(0.0, 1.0, 1), "must be positive"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
