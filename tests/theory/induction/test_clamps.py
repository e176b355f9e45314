"""Clamped heads: closed forms against the flow of all parts, gradients against a network, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.networks.minimal_head import MinimalHead
from theory.induction.clamps import clamped_flow, copying_alone, matching_alone
from theory.induction.nested_logits import averaged_flow

CONTEXT, LABELS, RATE = 4, 16.0, 3.0
T = np.linspace(0, 40, 21)


def test_given_two_the_third_is_in_closed_form():
    """The flow of all parts, of which two are at one to the last digit, is the closed form of the third."""
    sure = clamped_flow(T, CONTEXT, LABELS, ("previous", "match"), copy_rate=RATE)
    np.testing.assert_allclose(sure.logits.copy, copying_alone(T, LABELS, RATE), rtol=1e-7, atol=1e-9)
    p = jax.nn.softmax(jnp.stack([sure.logits.copy, *[0 * sure.logits.copy] * 15]), axis=0)[0]
    np.testing.assert_allclose(sure.accuracy, p, rtol=1e-7)
    only_match = clamped_flow(T, CONTEXT, LABELS, ("match",), copy_rate=RATE)
    np.testing.assert_allclose(only_match.accuracy, sure.accuracy, rtol=1e-7)
    copied = clamped_flow(T, CONTEXT, LABELS, ("copy", "previous"))
    np.testing.assert_allclose(copied.logits.match, matching_alone(T, CONTEXT), rtol=1e-12)
    np.testing.assert_allclose(clamped_flow(T, CONTEXT, LABELS, ("copy", "match")).accuracy, 1)


def test_given_none_it_is_the_minimal_head():
    found = clamped_flow(T, CONTEXT, LABELS, copy_rate=RATE)
    alone = averaged_flow(T, CONTEXT, LABELS, copy_rate=RATE)
    for got, expected in zip(found.logits, alone, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_a_copied_head_moves_as_a_network_learns():
    """The loss of a network whose output is its attention, over all places, against the speed of the flow."""

    def loss(match, previous):
        model = MinimalHead(match, previous, jnp.eye(CONTEXT))
        labels = jnp.tile(jnp.arange(CONTEXT), (CONTEXT, 1))
        # A classifier that is one turns attention into logits; their logarithm into a perfect copy.
        own = jnp.exp(model.previous) / (jnp.exp(model.previous) + 2 * jnp.arange(1, CONTEXT + 1) - 1)
        logits = jnp.where(jnp.eye(CONTEXT, dtype=bool), model.match * own[:, None], 0.0)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:1].T, axis=1))

    found = clamped_flow(T, CONTEXT, LABELS, ("copy",))
    speeds = [np.gradient(part, T) for part in found.logits[1:]]
    for i in (4, 10, 16):
        slopes = jax.grad(loss, argnums=(0, 1))(found.logits.match[i], found.logits.previous[i])
        # Differences over steps of two in t are right to a few per cent.
        for speed, slope in zip(speeds, slopes, strict=True):
            np.testing.assert_allclose(speed[i], -slope, rtol=0.06)
    short = clamped_flow(1e-3 * T, CONTEXT, LABELS, ("copy",))
    slopes = jax.grad(loss, argnums=(0, 1))(0.0, 0.0)
    np.testing.assert_allclose(short.logits.match[1], -slopes[0] * 1e-3 * T[1], rtol=1e-2)


@pytest.mark.slow
def test_the_more_is_given_the_earlier_the_head():
    """Times of half accuracy; later a copied head, which cannot be surer than its attention, is overtaken."""
    t = np.linspace(0, 40, 801)
    chains = [(), ("copy",), ("copy", "previous"), ("copy", "match")], [(), ("previous",), ("previous", "match")]
    for chain in chains:
        curves = [clamped_flow(t, CONTEXT, LABELS, clamps, copy_rate=RATE).accuracy for clamps in chain]
        half = [t[np.argmax(np.asarray(curve) > 0.5)] for curve in curves]
        assert (np.diff(half) < 0).all()


def test_long_after():
    for t in (1e6, 1e15):
        np.testing.assert_allclose(matching_alone(t, 4.0), np.log(3 * t), rtol=1e-4)
        np.testing.assert_allclose(copying_alone(t, 16.0, 2.0), np.log(30 * t), rtol=1e-4)
    np.testing.assert_array_equal([matching_alone(0.0, 4.0), copying_alone(0.0, 4.0)], 0)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: clamped_flow(T, 4, 16.0, ("mach",)), "clamps must be among .* got 'mach'"),
        (lambda: matching_alone(-1.0, 4.0), "t must be non-negative and finite, got -1"),
        (lambda: matching_alone(1.0, 1.0), "context must be above 1, got 1"),
        (lambda: copying_alone(1.0, 0.5), "labels must be above 1, got 0.5"),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
