"""Width scalings: the named ones, gauge symmetry, largest rates, what is violated, networks set up from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.kernels.scalings import (
    Scaling,
    feature_exponent,
    gauge_changed,
    growth,
    layer_rates,
    layers,
    maximal_update,
    mean_field,
    ntk,
    rate_exponent,
    regime,
    standard,
    violations,
)

depths = st.integers(1, 4)
optimisers = st.sampled_from(["sgd", "adam"])
seeds = st.integers(0, 2**32 - 1)


def stable_start(seed, depth, readout):
    """Random exponents with S = (0, 1/2, ..., 1/2, readout)."""
    rng = np.random.default_rng(seed)
    a, c = rng.uniform(-1, 1, (2, depth + 1))
    start = np.array([0.0, *[0.5] * (depth - 1), readout])
    return Scaling(*(jnp.asarray(x) for x in (a, start - a, c)))


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_the_table_of_named_scalings(depth):
    table = {
        "unstable": (standard(depth), 0.0 if depth == 1 else -1.0),
        "kernel": (ntk(depth), 0.5),
        "feature learning": (maximal_update(depth), 0.0),
    }
    for name, (scaling, r) in table.items():
        assert regime(scaling) == name
        assert feature_exponent(scaling) == r
    assert regime(standard(depth, 1.0)) == "kernel"
    # Without hidden-to-hidden weights only the input layer moves features, and its rate of 1/n is too small by n.
    assert feature_exponent(standard(depth, 1.0)) == (1.5 if depth == 1 else 0.5)
    assert regime(mean_field(depth)) == "feature learning"
    assert regime(standard(depth, 2.0)) == "trivial"


@pytest.mark.parametrize("depth", [1, 3])
def test_mean_field_is_maximal_update_in_another_gauge(depth):
    ours = mean_field(depth)
    same = gauge_changed(ours, maximal_update(depth).a - ours.a)
    for mine, other in zip(same, maximal_update(depth), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_maximal_update_without_multipliers():
    """The tables of the literature: start variances 1, 1/n, 1/n^2; rates n, 1, 1/n (SGD) and 1, 1/n, 1/n (Adam)."""
    mup = maximal_update(2)
    plain = gauge_changed(mup, -mup.a)
    np.testing.assert_array_equal(plain.b, [0, 0.5, 1])
    np.testing.assert_array_equal(plain.c, [-1, 0, 1])
    np.testing.assert_array_equal(layer_rates(plain, "adam"), [0, 1, 1])


@given(depths, optimisers, st.floats(0.5, 1.5), seeds)
def test_nothing_depends_on_the_gauge(depth, optimiser, readout, seed):
    scaling = stable_start(seed, depth, readout)
    shift = np.random.default_rng(seed + 1).uniform(-1, 1, depth + 1)
    same = gauge_changed(scaling, shift, optimiser)
    for first in (False, True):
        pairs = zip(growth(scaling, optimiser, first), growth(same, optimiser, first), strict=True)
        for one, other in pairs:
            np.testing.assert_allclose(one, other, atol=1e-14)
    assert violations(scaling, optimiser).keys() == violations(same, optimiser).keys()
    np.testing.assert_allclose(rate_exponent(same, optimiser), rate_exponent(scaling, optimiser), atol=1e-14)


@given(depths, optimisers, st.floats(0.5, 1.5), seeds)
def test_the_largest_rate_is_stable_and_a_larger_one_is_not(depth, optimiser, readout, seed):
    scaling = stable_start(seed, depth, readout)
    c = scaling.c + rate_exponent(scaling, optimiser)
    assert not violations(scaling._replace(c=c + 1e-12), optimiser)
    assert violations(scaling._replace(c=c - 1e-3), optimiser)
    # At the edge of stability something moves: a common rate is never trivial there, unless only features move.
    moved = growth(scaling._replace(c=c), optimiser)
    assert max(moved.output_change, moved.feature_change) > -1e-12


@given(depths, optimisers, st.floats(0.5, 1.5), seeds)
def test_every_layer_moves_as_far_as_it_may(depth, optimiser, readout, seed):
    scaling = stable_start(seed, depth, readout)
    largest = scaling._replace(c=layer_rates(scaling, optimiser))
    assert not violations(largest, optimiser)
    assert regime(largest, optimiser) == ("feature learning" if readout >= 1 else "kernel")
    np.testing.assert_allclose(feature_exponent(largest, optimiser), max(0, 1 - readout), atol=1e-14)
    np.testing.assert_allclose(growth(largest, optimiser).layer_change, -max(0, 1 - readout), atol=1e-14)
    for layer in range(depth + 1):
        assert violations(largest._replace(c=largest.c.at[layer].add(-1e-3)), optimiser)


def test_no_layer_of_maximal_update_can_move_further():
    for depth in (1, 3):
        mup = maximal_update(depth)
        np.testing.assert_array_equal(layer_rates(mup), mup.c)
        kernel = ntk(depth)
        np.testing.assert_array_equal(layer_rates(kernel), kernel.c)


@given(depths, optimisers, seeds)
def test_the_dichotomy(depth, optimiser, seed):
    """Stable networks that learn: where features move by order one a start of f of order one is impossible."""
    rng = np.random.default_rng(seed)
    scaling = stable_start(seed, depth, rng.uniform(0.5, 1.5))
    scaling = scaling._replace(c=scaling.c + rate_exponent(scaling, optimiser))
    moved = growth(scaling, optimiser)
    if regime(scaling, optimiser) == "feature learning":
        assert moved.output_start <= -0.5 + 1e-9
    assert moved.output_change < 1e-9


@pytest.mark.parametrize(
    ("broken", "change"),
    [
        ("input start", ("b", 0, 0.25)),
        ("hidden start", ("b", 1, 0.5)),
        ("output start", ("b", 2, -0.75)),
        ("features", ("c", 1, -0.5)),
        ("readout update", ("c", 2, -0.5)),
    ],
)
def test_the_condition_that_is_broken_is_named(broken, change):
    name, layer, by = change
    scaling = maximal_update(2)
    wrong = scaling._replace(**{name: getattr(scaling, name).at[layer].add(by)})
    assert broken in violations(wrong)
    assert regime(wrong) == "unstable"


def test_features_that_move_the_output_too_far_are_named():
    # An NTK readout above features that move by order one.
    wrong = ntk(2)._replace(c=jnp.array([-0.5, -0.5, 0.0]))
    assert list(violations(wrong)) == ["feature update"]
    # The naive mean-field scaling of 1/n in every layer lets all activations vanish.
    naive = Scaling(jnp.array([0.0, 1.0, 1.0]), jnp.zeros(3), jnp.full(3, -1.0))
    assert list(violations(naive)) == ["hidden start"]
    assert "n^1 " in violations(standard(2))["features"] + " "


def test_a_small_readout_learns_first_and_drives_features_later():
    scaling = maximal_update(2)
    small = scaling._replace(b=scaling.b.at[2].add(0.5))
    assert feature_exponent(small, first_step=True) == 0.5
    assert feature_exponent(small) == 0.0


def trained(scaling, optimiser, width=7):
    """Outputs of a small tanh network after three steps, weights drawn as standard normals with one key."""
    setup = layers(scaling, width, inputs=3, base_width=2, gain=1.5, learning_rate=0.3)
    rng = np.random.default_rng(0)
    shapes = [(width, 3), (width, width), (1, width)]
    draws = [jnp.asarray(rng.normal(size=shape)) for shape in shapes]
    weights = [jnp.sqrt(v) * w for v, w in zip(setup.variances, draws, strict=True)]
    x, y = jnp.asarray(rng.normal(size=(3, 4))), jnp.asarray(rng.normal(size=(1, 4)))

    def output(weights):
        first, second, last = (m * w for m, w in zip(setup.multipliers, weights, strict=True))
        return last @ jnp.tanh(second @ jnp.tanh(first @ x))

    gradient = jax.jit(jax.grad(lambda weights: jnp.mean((y - output(weights)) ** 2)))
    for _ in range(3):
        steps = gradient(weights)
        if optimiser == "adam":
            # Adam without memory: every entry moves by the learning rate.
            steps = [jnp.sign(g) for g in steps]
        weights = [w - rate * g for w, rate, g in zip(weights, setup.learning_rates, steps, strict=True)]
    return output(weights)


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_networks_of_one_gauge_class_are_the_same_network(optimiser):
    scaling = maximal_update(2)
    expected = trained(scaling, optimiser)
    for shift in (-scaling.a, jnp.array([0.3, -0.2, 0.5])):
        found = trained(gauge_changed(scaling, shift, optimiser), optimiser)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.abs(trained(ntk(2), optimiser) - expected).max() > 1e-3


@given(depths, st.floats(0.5, 2), st.floats(0.01, 1), st.sampled_from([2, 64]))
def test_all_scalings_agree_at_the_base_width_and_scale_by_powers(depth, gain, lr, base):
    for scaling in (standard(depth), ntk(depth), maximal_update(depth)):
        here, there = (
            layers(scaling, n, inputs=5, base_width=base, gain=gain, learning_rate=lr) for n in (base, 8 * base)
        )
        np.testing.assert_array_equal(here.multipliers, 1.0)
        np.testing.assert_allclose(here.variances, gain / np.array([5.0, *[base] * depth]), rtol=1e-15)
        np.testing.assert_allclose(here.learning_rates, lr, rtol=1e-15)
        np.testing.assert_allclose(there.multipliers, 8 ** -np.asarray(scaling.a), rtol=1e-14)
        np.testing.assert_allclose(there.variances / here.variances, 64 ** -np.asarray(scaling.b), rtol=1e-14)
        np.testing.assert_allclose(there.learning_rates / lr, 8 ** -np.asarray(scaling.c), rtol=1e-14)


def test_exponents_are_differentiable_and_jittable():
    slope = jax.jit(jax.grad(lambda c: feature_exponent(ntk(2)._replace(c=c))))(jnp.array([0.0, 0.5, 0.0]))
    np.testing.assert_array_equal(slope, [1, 0, 0])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ntk(0), "^depth must be"),
        (lambda: growth(ntk(2), "lion"), "^optimiser must be 'sgd' or 'adam', got 'lion'"),
        (lambda: layers(ntk(2), 0, inputs=3), "^width must be"),
        (lambda: layers(ntk(2), 4, inputs=3, gain=-1.0), "^gain must be positive"),
        (lambda: growth(Scaling(jnp.zeros(3), jnp.full(3, jnp.nan), jnp.zeros(3))), "^b must be finite"),
        (lambda: growth(Scaling(jnp.zeros(1), jnp.zeros(1), jnp.zeros(1))), "^scaling must hold"),
    ],
)
def test_refusals_name_the_argument(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
