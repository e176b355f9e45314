"""Unbalanced modes of deeper networks: the raw equations, the two-layer closed form, limits, gradients, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from theory.deep_linear.unbalanced import two_layer_strengths
from theory.deep_linear.unbalanced_depth import layer_strengths, learning_time


def compiled(function):
    """`function` of a number, layers, s and lam, compiled once for each depth whatever kinds of numbers it gets."""
    inner = jax.jit(function)
    return lambda x, a, s, lam=1.0: inner(*(np.asarray(argument, float) for argument in (x, a, s, lam)))


layers_at = compiled(layer_strengths)
time_of = compiled(learning_time)
gradient = compiled(jax.jacrev(layer_strengths, argnums=(0, 1, 2, 3)))

# Zero, or within the spread of scales that the panels cover.
pulls = st.floats(-2, 2).filter(lambda s: s == 0 or abs(s) > 1e-30)
times = st.floats(0, 20)
KINDS = ("positive", "signs", "one zero", "two zeros", "equal", "tied, wrong sign", "no pull")


@st.composite
def starts(draw, depths=(3, 5), kinds=KINDS):
    """Layers of any sign, with the ties and zeros that decide where the mode can go; and s."""
    depth, kind = draw(st.sampled_from(depths)), draw(st.sampled_from(kinds))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    a, s = rng.uniform(0.05, 1.2, depth), draw(pulls)
    if kind != "positive":
        a *= rng.choice([-1, 1], depth)
    if kind in ("one zero", "two zeros"):
        a[: 1 + (kind == "two zeros")] = 0
    if kind == "equal":
        a[:] = a[0]
    if kind == "tied, wrong sign":
        a[:2] = 0.04, -0.04
    return rng.permutation(a), 0.0 if kind == "no pull" else s


def raw(t, a, s, lam):
    """All layers by brute force."""

    def field(_, a):
        others = np.array([np.delete(a, layer).prod() for layer in range(len(a))])
        return others * (s - lam * a.prod())

    return solve_ivp(field, (0, t), a, method="DOP853", rtol=1e-13, atol=1e-16).y[:, -1]


@given(starts(), times, st.floats(0.2, 3))
def test_the_raw_weights(start, t, lam):
    a, s = start
    np.testing.assert_allclose(layers_at(t, a, s, lam), raw(t, a, s, lam), rtol=1e-10, atol=1e-12)


@given(st.floats(-3, 1), st.floats(-3, 1), st.booleans(), st.booleans(), pulls, st.floats(0.1, 10), times)
def test_two_layers_have_the_closed_form(log_a, log_b, turn, tie, s, lam, t):
    a0, b0 = 10**log_a, 10**log_b * (-1) ** turn
    b0 = np.copysign(a0, b0) if tie else b0
    expected = np.stack(two_layer_strengths(t, a0, b0, s, lam))
    # Relative to each layer: not even the small one loses a digit.
    np.testing.assert_allclose(layers_at(t, jnp.array([a0, b0]), s, lam), expected, rtol=1e-12, atol=1e-100)


@given(starts(), times, times)
def test_semigroup_and_conservation(start, t1, t2):
    a, s = start
    once, middle = layers_at(t1 + t2, a, s), layers_at(t1, a, s)
    # A shared weakest strength is only shared to rounding in the middle: the saddle forgets nothing.
    weakest = np.sort(np.abs(a))
    assume(weakest[1] - weakest[0] > 1e-3)
    np.testing.assert_allclose(layers_at(t2, middle, s), once, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(once**2 - once[0] ** 2, a**2 - a[0] ** 2, atol=1e-14 * np.max(once**2))


@given(starts(), times, st.floats(0.2, 5))
def test_symmetries(start, t, c):
    a, s = start
    now = np.asarray(layers_at(t, a, s))
    close = dict(rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(layers_at(t, a[::-1].copy(), s), now[::-1], **close)
    turned = np.where(np.arange(len(a)) == 1, -1, 1)
    np.testing.assert_allclose(layers_at(t, turned * a, -s), turned * now, **close)
    # Stronger layers, in proportion: time runs c^(2 - 2N) as fast, with the pull c^N.
    depth = len(a)
    np.testing.assert_allclose(layers_at(t * c ** (2 - 2 * depth), c * a, c**depth * s), c * now, **close)


@given(starts(kinds=("positive", "signs", "one zero")), st.floats(0.1, 2))
def test_limit_of_long_times(start, s):
    a, _ = start
    weakest = np.sort(np.abs(a))
    assume(weakest[1] - weakest[0] > 1e-2)
    np.testing.assert_allclose(np.prod(layers_at(1e12, a, s)), s, rtol=1e-13)


@pytest.mark.parametrize("depth", [3, 4, 6])
def test_ties_of_the_wrong_sign_sink_into_the_saddle(depth):
    # -x'= x^(depth - 1) (s + x^depth): at late times x^(2 - depth) = (depth - 2) s t.
    layers = layers_at(1e12, np.where(np.arange(depth) == 0, -0.5, 0.5), 1.0)
    late = ((depth - 2) * 1e12) ** (-1 / (depth - 2))
    np.testing.assert_allclose(np.abs(layers), late, rtol=1e-3)
    assert np.prod(np.sign(layers)) == -1


def test_plateau_of_a_tiny_start():
    # From equal layers a the first growth, x' = s x^(N-1), takes a^(2-N) / ((N-2) s); the rest is of order 1.
    for depth in (3, 5):
        a = 1e-3
        wait = a ** (2 - depth) / (depth - 2)
        passed = time_of(0.5, np.full(depth, a), 1.0)
        np.testing.assert_allclose(passed, wait, rtol=10 * a)
        # A rounding of so long a time moves the mode by it times du/dt = N u^(2 - 2/N) (s - u).
        slack = 4e-16 * passed * depth * 0.5 ** (3 - 2 / depth)
        np.testing.assert_allclose(np.prod(layers_at(passed, np.full(depth, a), 1.0)), 0.5, atol=slack + 1e-12)


@given(starts(kinds=("positive", "signs", "equal", "no pull")), st.floats(0.05, 5))
def test_learning_time_inverts_the_mode(start, t):
    a, s = start
    later = np.asarray(layers_at(t, a, s))
    u, u0 = later.prod(), a.prod()
    speeds = [np.abs(s - x.prod()) * np.sum(x.prod() ** 2 / x**2) / np.abs(x.prod()) for x in (later, a)]
    assume(min(speeds) > 1e-3)
    # A rounding of u moves the time by it over du/dt; the layers at the end are known to rounding too.
    slack = 1e-12 * (t + sum(1 / v for v in speeds)) / np.min(np.abs([*later, *a]))
    assert abs(time_of(u, a, s) - t) < slack
    assert abs(time_of(u0, later, s) + t) < slack


def test_strengths_that_are_never_reached():
    a = np.array([0.3, 0.4, 0.5])
    np.testing.assert_array_equal(time_of(jnp.array([1.0, 1.5]), a, 1.0), np.inf)
    assert time_of(0.1, np.array([0.3, -0.3, 0.5]), 1.0) == np.inf  # sinks into the saddle
    assert time_of(0.1, np.array([0.0, 0.0, 0.5]), 1.0) == np.inf
    assert time_of(0.0, np.array([0.0, 0.0, 0.5]), 1.0) == 0
    assert time_of(0.0, np.array([0.2, -0.3, 0.5]), 1.0) > 0  # turns round through zero


@given(starts(depths=(3,), kinds=("positive", "signs", "one zero", "no pull")), st.floats(0.1, 10), st.floats(0.3, 2))
def test_gradients(start, t, lam):
    a, s = start
    weakest = np.sort(np.abs(a))
    assume(weakest[1] - weakest[0] > 0.03)  # differences across a tie would see the other layer
    found = gradient(t, a, s, lam)
    point = np.array([t, *a, s, lam])
    found = np.column_stack([found[0], found[1], found[2], found[3]])
    h = 1e-3 * np.maximum(np.abs(point), 0.05) / 2
    # Fourth-order differences of values good to 1e-14: error 1e-11 from rounding, h^4 from curvature.
    for i in range(len(point)):
        if point[i] - 2 * h[i] < 0 and i == 0:
            continue
        shifted = {}
        for k in (-2, -1, 1, 2):
            p = point.copy()
            p[i] += k * h[i]
            shifted[k] = np.asarray(layers_at(p[0], p[1:4], p[4], p[5]))
        slope = (8 * (shifted[1] - shifted[-1]) - (shifted[2] - shifted[-2])) / (12 * h[i])
        np.testing.assert_allclose(found[:, i], slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("t", [0.0, 1.0, 1e8])
@pytest.mark.parametrize("s", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("a", [(0.3, 0.3, 0.3), (0.3, -0.3, 0.5), (0.0, 0.0, 0.5), (0.0, 0.4, 0.5), (1.0, 1.0, 1.0)])
def test_gradients_are_finite_everywhere(t, s, a):
    assert all(np.isfinite(g).all() for g in gradient(t, np.array(a), s, 1.0))


def test_shapes():
    assert layer_strengths(np.ones((2, 3)), np.ones(4), 1).shape == (2, 3, 4)
    assert layer_strengths(1, np.array([1, 2, 3]), 1).shape == (3,)
    assert learning_time(np.ones((2, 3)) / 2, np.ones(4) / 2, 1).shape == (2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1.0, np.ones(3), 1.0), "t must be non-negative"),
        ((1.0, np.ones(1), 1.0), "layers must be a vector of two strengths or more"),
        ((1.0, np.array([1.0, np.nan]), 1.0), "layers must be finite"),
        ((1.0, np.ones(3), 1.0, 0.0), "lam must be positive"),
    ],
)
def test_refusals_name_the_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        layer_strengths(*arguments)
