"""From saddle to saddle: optimality of each plateau, the L1 end, shrinking starts, symmetries, gradients, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import linprog, nnls

from theory.deep_linear.saddle_to_saddle import accelerated_time, plateau, saddle_path

SAMPLES, FEATURES, JUMPS = 4, 7, 40
seeds = st.integers(0, 2**32 - 1)


def data(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(SAMPLES, FEATURES)), rng.normal(size=SAMPLES)


def path_of(x, y):
    """Times, plateaus and s up to the last jump."""
    times, beta, s = (np.asarray(part) for part in saddle_path(x, y, JUMPS))
    last = np.isfinite(times).sum()
    return times[:last], beta[:last], s[:last]


def gradient(x, y, beta):
    """dL/dbeta of each plateau."""
    return -(y - beta @ x.T) @ x / len(y)


@given(seeds)
def test_each_plateau_is_the_best_of_its_signs(seed):
    x, y = data(seed)
    times, beta, s = path_of(x, y)
    g = gradient(x, y, beta)
    assert times[0] == 0 and (beta[0] == 0).all() and (s[0] == 0).all() and (np.diff(times) > 0).all()
    assert (np.abs(s) <= 1).all()
    # Some rounding errors of the conditioned least squares: 1e-12 of the largest pull.
    zero = 1e-11 * np.abs(g[0]).max()
    arrived, held = np.abs(s) == 1, beta != 0
    assert (s[held] * beta[held] > 0).all() and arrived[held].all()
    np.testing.assert_allclose(g[held], 0, atol=zero)
    assert (s * g)[arrived].min(initial=0) > -zero
    for row, signs, found in zip(arrived[1:], s[1:], beta[1:], strict=True):
        best = nnls(x * np.where(row, signs, 0), y)[0]
        np.testing.assert_allclose(found, np.where(row, signs * best, 0), atol=1e-9)


@given(seeds)
def test_between_jumps_s_moves_against_the_gradient(seed):
    x, y = data(seed)
    times, beta, s = path_of(x, y)
    moved = -np.diff(times)[:, None] * gradient(x, y, beta)[:-1]
    # s is set to its bound from 1e4 roundings away.
    np.testing.assert_allclose(np.diff(s, axis=0), moved, atol=1e-11)
    # No bound is passed on the way, and one is reached by each jump.
    assert ((np.abs(s[1:]) == 1) & (np.abs(s[:-1]) < 1) | ((s[1:] * s[:-1]) == -1)).any(axis=1).all()


@given(seeds)
def test_the_last_plateau_has_the_least_l1_norm(seed):
    x, y = data(seed)
    split = linprog(np.ones(2 * FEATURES), A_eq=np.hstack([x, -x]), b_eq=y).x
    beta = path_of(x, y)[1][-1]
    np.testing.assert_allclose(x @ beta, y, atol=1e-11)
    np.testing.assert_allclose(beta, split[:FEATURES] - split[FEATURES:], atol=1e-7)
    loss = np.sum((y - path_of(x, y)[1] @ x.T) ** 2, axis=1)
    assert (np.diff(loss) < 1e-13).all()


def flowing(x, y, ell, until):
    """Gradient flow from u = v = exp(-ell/2), as the equation of s = 4 eta / ell in accelerated time."""

    def grown(s):
        # Trial steps must not overflow.
        return np.exp(np.minimum(ell * (s - 1), 300)), np.exp(np.minimum(-ell * (s + 1), 300))

    def coefficients(s):
        up, down = grown(s)
        return up - down

    def field(_, s):
        return x.T @ (y - x @ coefficients(s)) / len(y)

    def slope(_, s):
        return -(x.T @ x / len(y)) * ell * sum(grown(s))

    flow = solve_ivp(
        field, (0, until), np.zeros(x.shape[1]), "Radau", rtol=1e-8, atol=1e-10, jac=slope, dense_output=True
    )
    return lambda t: coefficients(flow.sol(t))


@pytest.mark.parametrize("seed", [1, 2, 6])
def test_shrinking_starts_approach_the_path(seed):
    x, y = data(seed)
    times, beta, _ = path_of(x, y)
    new = int(np.flatnonzero(beta[1])[0])
    half = beta[1, new] / 2
    ells, lag = np.array([100.0, 200.0, 400.0]), []
    for ell in ells:
        flow = flowing(x, y, ell, (times[1] + times[2]) / 2)
        low, high = 0.9 * times[1], (times[1] + times[2]) / 2
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if flow(middle)[new] / half > 1 else (middle, high)
        lag.append(low - times[1])
    # From zero the first coordinate is the logistic of its own pull m: half of b is passed at T = (1 + ln(b)/ell)/m.
    pull = np.abs(gradient(x, y, beta[0])).max()
    expected = np.log(np.abs(beta[1, new])) / (ells * pull)
    # Others that still grow change that by exp(-ell (1 - |s|)), below the last plateau's settling.
    np.testing.assert_allclose(lag, expected, atol=1e-3 / (ells[0] * pull))


def test_the_whole_path_is_approached():
    x, y = data(2)
    times, beta, _ = path_of(x, y)
    errors = []
    for ell in (300.0, 600.0, 1200.0):
        flow = flowing(x, y, ell, times[-1] + 1)
        middle = np.append((times[1:] + times[:-1]) / 2, times[-1] + 1)
        # A jump is done after some 20/ell.
        long = np.append(np.diff(times), 2.0) > 40 / ell
        found = np.array([flow(t) for t in middle])
        errors.append(np.abs(found - beta)[long].max())
    # Features off are exp(-ell (1 - |s|)): smaller by as many powers as the start is.
    assert errors[0] < 1e-2 and errors[2] < 1e-6


@given(seeds, st.floats(0.1, 10))
def test_symmetries(seed, k):
    x, y = data(seed)
    times, beta, s = path_of(x, y)
    rng = np.random.default_rng(seed)
    sign, order = rng.choice([-1, 1], FEATURES), rng.permutation(FEATURES)
    rotation = np.linalg.qr(rng.normal(size=(SAMPLES, SAMPLES)))[0]
    cases = [
        ((x * sign, y), (times, sign * beta, sign * s)),
        ((x[:, order], y), (times, beta[:, order], s[:, order])),
        ((rotation @ x, rotation @ y), (times, beta, s)),
        ((x, k * y), (times / k, k * beta, s)),
        ((k * x, y), (times / k, beta / k, s)),
    ]
    for changed, expected in cases:
        found = path_of(*changed)
        # Jumps that all but coincide could be split otherwise by rounding.
        assume(len(found[0]) == len(times))
        for part, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(part, other, rtol=1e-9, atol=1e-10)


@given(st.integers(0, 100))
def test_orthogonal_designs_learn_each_feature_by_itself(seed):
    rng = np.random.default_rng(seed)
    target = rng.choice([-1, 1], 3) * rng.permutation([0.4, 1.0, 2.2])
    x = 2 * np.linalg.qr(rng.normal(size=(SAMPLES, 3)))[0]
    times, beta, _ = path_of(x, x @ target)
    np.testing.assert_allclose(times, [0, 1 / 2.2, 1, 1 / 0.4], rtol=1e-12)
    np.testing.assert_allclose(beta, target * (np.abs(target) >= np.array([9, 2.1, 0.9, 0.3])[:, None]), atol=1e-12)


def test_plateau_looks_up_the_path():
    path = saddle_path(*data(3), JUMPS)
    times, beta = np.asarray(path.times), np.asarray(path.beta)
    np.testing.assert_array_equal(plateau(0.0, path), 0)
    np.testing.assert_array_equal(plateau(times[:4], path), beta[:4])
    np.testing.assert_array_equal(plateau((times[:3] + times[1:4])[None] / 2, tuple(path)), beta[None, :3])
    np.testing.assert_array_equal(plateau(1e9, path), beta[-1])


def test_accelerated_time():
    # alpha = e^-10: 4 t / 20.
    np.testing.assert_allclose(accelerated_time(np.array([0.0, 5.0, 30.0]), -10.0), [0, 1, 6], rtol=1e-15)


# Of the times and of the plateaus.
slopes = jax.jit(jax.jacrev(lambda x, y: saddle_path(x, y, JUMPS)[:2], argnums=(0, 1)))


def test_gradients():
    x, y = data(2)
    last = len(path_of(x, y)[0])

    found = [[part[:last] for part in pair] for pair in slopes(x, y)]
    rng = np.random.default_rng(0)
    step = 1e-6 * rng.normal(size=x.shape), 1e-6 * rng.normal(size=y.shape)
    ahead, behind = (path_of(x + sign * step[0], y + sign * step[1])[:2] for sign in (1, -1))
    for slope, up, down in zip(found, ahead, behind, strict=True):
        change = np.tensordot(slope[0], step[0], 2) + slope[1] @ step[1]
        # Rounding 1e-14 of the path over the change of 1e-6; the third derivative is below.
        np.testing.assert_allclose(change, (up - down) / 2, atol=1e-6 * np.abs(change).max())


def test_hard_data():
    """No targets, a feature of zeros, and a time past all jumps: finite values and gradients."""
    x, y = data(5)
    times, beta, s = saddle_path(x, 0 * y, JUMPS)
    assert np.isinf(times[1:]).all() and (np.asarray(beta) == 0).all() and (np.asarray(s) == 0).all()
    x[:, 3] = 0
    times, beta, s = path_of(x, y)
    assert (beta[:, 3] == 0).all() and (s[:, 3] == 0).all()
    np.testing.assert_allclose(x @ beta[-1], y, atol=1e-11)
    for target in (y, 0 * y):
        assert all(np.isfinite(part).all() for part in slopes(x, target)[1])


def test_refusals():
    x, y = data(0)
    with pytest.raises(Exception, match="max_jumps must leave room for the whole path, got 2, after which"):
        saddle_path(x, y, 2)[0].block_until_ready()
    assert np.isfinite(saddle_path(x, y, 2, throw=False).times).all()
    with pytest.raises(ValueError, match=r"^max_jumps must be a whole number of at least 1, got 0"):
        saddle_path(x, y, 0)
    with pytest.raises(ValueError, match=r"^y must be finite, got nan"):
        saddle_path(x, np.nan * y)
    with pytest.raises(ValueError, match=r"^log_alpha must be negative, for alpha < 1, got 0.5"):
        accelerated_time(1.0, 0.5)
    with pytest.raises(ValueError, match=r"^accelerated must be non-negative"):
        plateau(-1.0, (jnp.zeros(1), jnp.zeros((1, 2)), jnp.zeros((1, 2))))
