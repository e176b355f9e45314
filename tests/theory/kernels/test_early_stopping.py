"""Early stopping: the moments of the outputs, a fine grid of times, one mode, limits, gradients, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.deep_linear.generalization import mode_stopping_time
from theory.kernels.early_stopping import best_stopping_time, error_form, expected_error, known_truth
from theory.kernels.linearised_training import Blocks, flow_filter, flow_outputs

P, R = 5, 3
seeds = st.integers(0, 2**32 - 1)
form_of = jax.jit(error_form, static_argnames="outputs")
best = jax.jit(best_stopping_time, static_argnames="loss")
outputs_of = jax.jit(flow_outputs)
flow_modes = jax.jit(flow_filter, static_argnames=("samples", "loss"))


def drawn(seed, names=3):
    """Kernels of order one on training and test points."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(names, P + R, 9)) / 3
    return [Blocks.split(f @ f.T, P) for f in features], rng


@given(seeds, st.floats(0, 60), st.sampled_from([1, 2]))
def test_error_is_bias_and_variance_of_the_outputs(seed, t, outputs):
    """For one known function."""
    (ntk, nngp, _), rng = drawn(seed)
    y, truth = rng.normal(size=(P, outputs)), rng.normal(size=(R, outputs))
    found = expected_error(form_of(ntk, known_truth(y, truth), nngp, outputs=outputs), flow_modes(t, ntk_modes(ntk), P))
    trained = outputs_of(t, ntk, nngp, y)
    bias, variance = np.sum((trained.mean - truth) ** 2) / R, outputs * np.trace(trained.covariance) / R
    np.testing.assert_allclose(found, bias + variance, rtol=1e-10)


def ntk_modes(ntk):
    return np.linalg.eigvalsh(ntk.train)


@given(seeds, st.floats(0, 60), st.sampled_from([0.0, 0.4]))
def test_a_gaussian_teacher_is_the_average_of_known_ones(seed, t, noise):
    """Over the columns of a square root of its covariance, which have its second moments."""
    (ntk, nngp, teacher), _ = drawn(seed)
    joint = np.block([[teacher.train + noise * np.eye(P), teacher.cross.T], [teacher.cross, teacher.test]])
    root = np.linalg.cholesky(joint + 1e-14 * np.eye(P + R)) * np.sqrt(P + R)
    g = flow_modes(t, ntk_modes(ntk), P)
    each = [expected_error(form_of(ntk, known_truth(f[:P], f[P:]), nngp), g) for f in root.T]
    np.testing.assert_allclose(np.mean(each), expected_error(form_of(ntk, teacher, nngp, noise), g), rtol=1e-9)


@given(seeds, st.sampled_from([0.05, 0.5, 3.0]), st.booleans())
def test_no_time_is_better(seed, noise, centred):
    (ntk, nngp, teacher), _ = drawn(seed)
    zero = Blocks(*(0 * k for k in nngp))
    form = form_of(ntk, teacher, zero if centred else nngp, noise)
    stop = best(form)
    grid = np.concatenate([[0.0], np.geomspace(1e-4, 1e5, 4000), [np.inf]])
    errors = np.asarray(expected_error(form, flow_modes(grid[:, None], form.lam, P)))
    # On a grid of spacing 0.5 % the least error is met to second order in it.
    assert stop.error <= errors.min() * (1 + 1e-12)
    np.testing.assert_allclose(stop.error, errors.min(), rtol=1e-4)
    np.testing.assert_allclose(stop.error, expected_error(form, flow_modes(stop.time, form.lam, P)), rtol=1e-11)


@given(st.floats(0.1, 10), st.floats(0.1, 5), st.floats(0.05, 5))
def test_one_mode_is_that_of_linear_regression(lam, signal, noise):
    """All eigenvalues equal: y = f + noise at points tested on, f independent from point to point."""
    one = Blocks.on_training_points(np.eye(P))
    form = form_of(Blocks(*(lam * k for k in one)), Blocks(*(signal * lam * k for k in one)), None, noise)
    # In linear regression a weight of variance `signal` makes an output of variance `signal` lam.
    expected = mode_stopping_time(lam, (1.0, signal, noise, 0.0))
    np.testing.assert_allclose(best(form, loss="sum_half").time, expected, rtol=1e-6)
    np.testing.assert_allclose(best(form).time, P * expected, rtol=1e-6)


def test_never_and_always():
    (ntk, nngp, teacher), _ = drawn(1)
    # Nothing to learn but noise.
    nothing = Blocks(*(0 * k for k in teacher))
    stop = best(form_of(ntk, nothing, None, 1.0))
    assert stop.time == 0 and stop.error == 0
    # Tested on the training points, without noise, there is no reason to stop.
    own = [Blocks.on_training_points(k.train) for k in (ntk, teacher, nngp)]
    stop = best(error_form(*own))
    assert stop.time == np.inf and abs(stop.error) < 1e-10
    # A ridge that is in its place costs less than it gains.
    assert best(form_of(ntk, ntk, None, 0.5), ridge=0.5 / P).error <= best(form_of(ntk, ntk, None, 0.5)).error


def test_the_best_linear_predictor_is_the_matched_ridge():
    """Teacher = kernel, ridge = noise: no time of any flow does better than the end of that one."""
    (ntk, *_), _ = drawn(2)
    form = form_of(ntk, ntk, None, 0.5)
    stop = best(form, ridge=0.5 / P)
    end = expected_error(form, flow_modes(jnp.inf, form.lam, P, ridge=0.5 / P))
    np.testing.assert_allclose(stop.error, end, rtol=1e-12)
    gain = np.linalg.solve(ntk.train + 0.5 * np.eye(P), ntk.cross.T)
    np.testing.assert_allclose(end, np.trace(ntk.test - ntk.cross @ gain) / R, rtol=1e-10)


def test_gradient_of_the_time():
    (ntk, nngp, teacher), _ = drawn(4)

    def time(noise):
        return best(form_of(ntk, teacher, nngp, noise)).time

    near = (time(1.0 + 1e-3) - time(1.0 - 1e-3)) / 2e-3
    np.testing.assert_allclose(jax.grad(time)(1.0), near, rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda ntk: error_form(ntk, ntk, None, -1.0), "^noise must be non-negative"),
        (lambda ntk: error_form(ntk, ntk._replace(test=np.eye(2))), "^teacher.test must be a matrix"),
        (lambda ntk: best_stopping_time(error_form(ntk, ntk), loss="sum"), "^loss must be one of"),
        (lambda ntk: best_stopping_time(error_form(Blocks(*(0 * k for k in ntk)), ntk)), "^form must have a positive"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call(drawn(0)[0][0])
