"""One Cholesky pass: dense conditioning at every prefix, the laws of a predictor, mixtures, and refusals."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from theory.bayes_icl.prequential import (
    Predictions,
    linear_predictions,
    log_posterior,
    mixture_predictions,
    normalised_log_prior,
    process_predictions,
    streaming_predictions,
    weight_posteriors,
)
from validation.predictor_laws import ISOTROPIC, LAWS, Context, calibration, contexts
from validation.strategies import log_uniform, seeds


def compiled(predictor):
    return jax.jit(lambda x, y, noise: predictor(x, y, noise))


isotropic = {
    "one pass": compiled(linear_predictions),
    "streaming": compiled(streaming_predictions),
}


@pytest.mark.parametrize("law", ISOTROPIC)
@pytest.mark.parametrize("way", isotropic)
@given(contexts())
def test_laws(way, law, context):
    assert ISOTROPIC[law](isotropic[way], context) < 1e-9


def model(seed, n, p):
    """Features, labels, prior mean and covariance."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(p, p))
    return rng.normal(size=(n, p)), rng.normal(size=n), rng.normal(size=p), root @ root.T + 0.1 * np.eye(p)


# One factor below two pairs for each feature; from there on pair by pair, or three pairs at a time and some left over.
SHAPES = [(4, 6), (5, 3), (6, 3), (9, 3), (33, 17), (35, 17)]


@given(seeds, log_uniform(1e-3, 3), st.sampled_from(SHAPES))
def test_dense_conditioning(seed, noise, shape):
    """Every prefix from the inverse of its own covariance."""
    phi, y, m, covariance = model(seed, *shape)
    k = phi @ covariance @ phi.T + noise * np.eye(len(y))
    found = linear_predictions(phi, y, noise, m, covariance)
    beliefs = weight_posteriors(phi, y, noise, m, covariance)
    scale = np.max(np.diag(k))
    for t in range(len(y)):
        mean = phi[t] @ m + k[t, :t] @ np.linalg.solve(k[:t, :t], y[:t] - phi[:t] @ m)
        variance = k[t, t] - k[t, :t] @ np.linalg.solve(k[:t, :t], k[:t, t])
        # Rounding of the conditioning itself, in either form.
        error = 1e-13 * scale / noise
        np.testing.assert_allclose(found.mean[t], mean, atol=error * (1 + abs(y).max()))
        np.testing.assert_allclose(found.variance[t], variance, atol=error * scale)
        np.testing.assert_allclose(phi[t] @ beliefs.mean[t], mean, atol=10 * error * (1 + abs(y).max()))
        spread = phi[t] @ beliefs.covariance[t] @ phi[t] + noise
        np.testing.assert_allclose(spread, variance, atol=10 * error * scale)
    whole = multivariate_normal(phi @ m, k).logpdf(y)
    np.testing.assert_allclose(found.log_evidence[-1], whole, rtol=1e-9, atol=1e-9 / noise)


def by_factor(phi, y, noise, m=0.0, covariance=1.0):
    """One factor of the kernel, whatever the shape."""
    covariance = jnp.asarray(covariance)
    full = covariance if covariance.ndim == 2 else covariance * jnp.eye(phi.shape[1])
    return process_predictions(phi @ full @ phi.T, y, noise, phi @ jnp.broadcast_to(jnp.asarray(m), phi.shape[1:]))


@pytest.mark.parametrize("shape", [*SHAPES, (6, 2)])
@pytest.mark.parametrize("prior", ["one variance", "variances", "covariance"])
def test_noise_of_each_label(shape, prior):
    phi, y, m, covariance = model(3, *shape)
    covariance = {"one variance": 1.7, "variances": np.diag(covariance), "covariance": covariance}[prior]
    noise = np.linspace(0.1, 1.0, shape[0])
    one = linear_predictions(phi, y, noise, m, covariance)
    for way in (streaming_predictions, by_factor):
        for a, b in zip(one, way(phi, y, noise, m, covariance), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_evidence_with_noise_of_each_label():
    phi, y, m, covariance = model(3, 6, 2)
    noise = np.linspace(0.1, 1.0, 6)
    one = linear_predictions(phi, y, noise, m, covariance)
    whole = multivariate_normal(phi @ m, phi @ covariance @ phi.T + np.diag(noise)).logpdf(y)
    np.testing.assert_allclose(one.log_evidence[-1], whole, rtol=1e-11)


def test_nothing_is_seen():
    phi, y, m, covariance = model(0, 1, 3)
    for way in (linear_predictions, streaming_predictions):
        found = way(phi, y, 0.3, m, covariance)
        np.testing.assert_allclose(found.mean[0], phi[0] @ m, rtol=1e-12)
        np.testing.assert_allclose(found.variance[0], phi[0] @ covariance @ phi[0] + 0.3, rtol=1e-12)
        assert all(part.shape == (0,) for part in way(phi[:0], y[:0], 0.3, m, covariance))
    np.testing.assert_array_equal(weight_posteriors(phi[:0], y[:0], 0.3, m, covariance).mean, m[None])
    nothing = linear_predictions(np.zeros((4, 0)), np.ones(4), 0.3)
    np.testing.assert_array_equal(nothing.mean, 0.0)
    np.testing.assert_array_equal(nothing.variance, 0.3)


def in_many_digits(phi, y, noise):
    """Means and variances by recursive least squares with 60 digits."""
    with mpmath.workdps(60):
        w, c = mpmath.zeros(phi.shape[1], 1), mpmath.eye(phi.shape[1])
        found = []
        for row, target in zip(phi, y, strict=True):
            x = mpmath.matrix([float(a) for a in row])
            gain = c * x
            total, mean = (x.T * gain)[0] + float(noise), (x.T * w)[0]
            found.append((float(mean), float(total)))
            w, c = w + gain * ((float(target) - mean) / total), c - gain * gain.T / total
    return np.array(found).T


@pytest.mark.parametrize("shape", [(16, 8), (37, 17), (60, 2)])
@pytest.mark.parametrize("noise", [1.0, 1e-3, 1e-6, 1e-9, 1e-12])
def test_little_noise_is_no_worse_than_by_a_factor(shape, noise):
    """Against 60 digits: errors of some eps max K, of variances and of labels in standard deviations."""
    rng = np.random.default_rng(8)
    phi = rng.normal(size=shape)
    y = phi @ rng.normal(size=shape[1]) + noise**0.5 * rng.normal(size=shape[0])
    mean, variance = in_many_digits(phi, y, noise)

    def errors(found):
        return np.max(np.abs(found.mean - mean) / variance**0.5), np.max(np.abs(found.variance - variance) / variance)

    rounding = np.finfo(float).eps * np.max(np.sum(phi**2, axis=1)) / noise
    of_kernel = errors(by_factor(phi, y, noise))
    for found, other in zip(errors(linear_predictions(phi, y, noise)), of_kernel, strict=True):
        assert found < 10 * rounding + 1e-14
        assert found < 4 * other + 1e-14


def test_little_noise_interpolates():
    """Noise of 1e-9: the minimum-norm interpolant, until there are as many pairs as dimensions."""
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(8, 5)), rng.normal(size=5)
    found = linear_predictions(x, x @ w, 1e-9)
    for t in range(8):
        least = np.linalg.pinv(x[:t]) @ (x[:t] @ w) if t else np.zeros(5)
        np.testing.assert_allclose(found.mean[t], x[t] @ least, atol=1e-6)


def test_excess_without_noise_falls_by_one_part_in_d_for_each_pair():
    d = 6
    x = np.random.default_rng(2).normal(size=(4000, d + 1, d))
    unknown = jax.vmap(lambda one: linear_predictions(one, jnp.zeros(d + 1), 1e-9).variance)(x)
    mean, error = np.mean(unknown, axis=0) / d, np.std(unknown, axis=0) / d / 4000**0.5
    np.testing.assert_array_less(np.abs(mean - (1 - np.arange(d + 1) / d)), 5 * error + 1e-8)


def prompts(count, n, d, noise, seed=0):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(count, n, d)), rng.normal(size=(count, d))
    return x, np.einsum("pnd,pd->pn", x, w) + noise**0.5 * rng.normal(size=(count, n))


def test_errors_are_as_large_as_it_says():
    noise = 0.25
    x, y = prompts(1500, 5, 3, noise)
    assert calibration(isotropic["one pass"], x, y, noise) < 5
    # A predictor that takes the variance for a standard deviation is found out.
    assert calibration(lambda x, y, noise: isotropic["one pass"](x, y, noise**2), x, y, noise) > 5


def test_regret_is_the_information_about_the_weights():
    """E [log p(y | X, w) - log p(y | X)] = E log det(I + X X^T / sigma^2) / 2."""
    noise, n, d = 0.4, 6, 3
    rng = np.random.default_rng(5)
    x, w = rng.normal(size=(4000, n, d)), rng.normal(size=(4000, d))
    error = noise**0.5 * rng.normal(size=(4000, n))
    y = np.einsum("pnd,pd->pn", x, w) + error
    evidence = jax.vmap(lambda a, b: linear_predictions(a, b, noise).log_density.sum())(x, y)
    known = np.sum(-(error**2) / (2 * noise) - np.log(2 * np.pi * noise) / 2, axis=1)
    determinant = np.linalg.slogdet(np.eye(n) + x @ x.swapaxes(1, 2) / noise)[1] / 2
    gain = known - np.asarray(evidence) - determinant
    assert abs(gain.mean()) < 5 * gain.std() / 4000**0.5


def two_models(x, y, noise):
    """Weights of one scale or another: exchangeable and even, yet not Gaussian."""
    parts = [linear_predictions(x, y, noise, 0.0, variance) for variance in (0.1, 4.0)]
    return mixture_predictions(Predictions(*(jnp.stack(part) for part in zip(*parts, strict=True))))


of_two_models = compiled(two_models)


@pytest.mark.parametrize("law", [*LAWS, "odd", "rotated"])
@given(contexts())
def test_laws_of_a_mixture(law, context):
    assert ISOTROPIC[law](of_two_models, context) < 1e-9


def test_a_mixture_is_not_affine():
    x, y = prompts(1, 6, 2, 0.25)
    context = Context(x[0], y[0], 0.25, np.eye(2), np.arange(6))
    assert ISOTROPIC["affine"](of_two_models, context) > 1e-3


def test_errors_of_a_mixture_are_as_large_as_it_says():
    rng, noise = np.random.default_rng(7), 0.3
    x = rng.normal(size=(1500, 5, 2))
    w = rng.normal(size=(1500, 2)) * rng.choice([0.1, 4.0], size=(1500, 1)) ** 0.5
    y = np.einsum("pnd,pd->pn", x, w) + noise**0.5 * rng.normal(size=(1500, 5))
    assert calibration(of_two_models, x, y, noise) < 5


@given(seeds)
def test_mixture_by_brute_force(seed):
    """Posterior mean and variance of the second label from a two-component density on a grid."""
    rng = np.random.default_rng(seed)
    prior, noise = rng.dirichlet(np.ones(2)), 0.5
    x, y = rng.normal(size=(2, 1)), rng.normal(size=2)
    parts = [linear_predictions(x, y, noise, m, v) for m, v in ((np.array([1.0]), 0.2), (np.array([-1.0]), 2.0))]
    stacked = Predictions(*(np.stack(part) for part in zip(*parts, strict=True)))
    found = mixture_predictions(stacked, np.log(prior))
    w = np.linspace(-14, 14, 40_001)
    density = sum(
        p * np.exp(-((w - m) ** 2) / (2 * v)) / v**0.5 for p, m, v in zip(prior, (1.0, -1.0), (0.2, 2.0), strict=True)
    )
    likelihood = density * np.exp(-((y[0] - x[0] * w) ** 2) / (2 * noise))
    mean = np.sum(likelihood * w) / np.sum(likelihood)
    variance = np.sum(likelihood * (w - mean) ** 2) / np.sum(likelihood)
    np.testing.assert_allclose(found.mean[1], x[1, 0] * mean, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(found.variance[1], x[1, 0] ** 2 * variance + noise, rtol=1e-9)
    first = np.sum(likelihood) / np.sum(density) / (2 * np.pi * noise) ** 0.5
    np.testing.assert_allclose(found.log_density[0], np.log(first), rtol=1e-9, atol=1e-9)


def test_one_model_and_twice_the_same_are_that_model():
    phi, y, m, covariance = model(4, 7, 3)
    alone = linear_predictions(phi, y, 0.2, m, covariance)
    for copies, prior in ((1, None), (2, None), (2, np.log([0.9, 0.1]))):
        found = mixture_predictions(Predictions(*(np.stack([part] * copies) for part in alone)), prior)
        for a, b in zip(found, alone, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_belief_knows_the_past_only():
    density = np.log([[0.5, 0.2, 0.7], [0.1, 0.6, 0.7]])
    belief = np.exp(log_posterior(density, np.log([0.3, 0.7])))
    joint = np.array([0.3, 0.7])
    for t in range(4):
        np.testing.assert_allclose(belief[:, t], joint / joint.sum(), rtol=1e-14)
        joint = joint * np.exp(density[:, min(t, 2)])
    # Nothing seen: the prior, once.
    np.testing.assert_allclose(np.exp(log_posterior(np.zeros((2, 0)), np.log([0.3, 0.7]))), [[0.3], [0.7]], rtol=1e-14)
    # A model that rules an observation out is out for good, without NaN.
    out = np.exp(log_posterior(np.array([[0.0, -np.inf, 0.0], [-1.0, -1.0, -1.0]])))
    np.testing.assert_array_equal(out[0, 2:], 0.0)
    np.testing.assert_array_equal(out[1, 2:], 1.0)


def test_prior_is_normalised():
    np.testing.assert_allclose(np.exp(normalised_log_prior(np.log([3.0, 1.0]), 2)), [0.75, 0.25], rtol=1e-14)
    np.testing.assert_allclose(np.exp(normalised_log_prior(None, 4)), 0.25, rtol=1e-14)


def test_belief_is_a_martingale():
    """Of labels from the mixture itself, the mean of tomorrow's belief is today's."""
    urns = np.array([[0.7, 0.2, 0.1], [0.2, 0.3, 0.5]])
    today, tomorrow = [np.exp(log_posterior(np.log(urns[:, [0, 2]])))[:, 2]], []
    for symbol in range(3):
        after = np.exp(log_posterior(np.log(urns[:, [0, 2, symbol]])))[:, 3]
        tomorrow.append((today[0] @ urns[:, symbol]) * after)
    np.testing.assert_allclose(np.sum(tomorrow, axis=0), today[0], rtol=1e-13)


def test_derivatives_and_batches():
    phi, y, *_ = model(6, 5, 2)

    def evidence(noise):
        return linear_predictions(phi, y, noise).log_evidence[-1]

    slope = (evidence(0.3 + 1e-5) - evidence(0.3 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.jit(jax.grad(evidence))(0.3), slope, rtol=1e-6)
    many = jax.vmap(linear_predictions, in_axes=(None, 0, None))(phi, np.stack([y, -y]), 0.3)
    np.testing.assert_allclose(many.mean[0], -many.mean[1], rtol=1e-12)


# One factor, and pairs one at a time or three together.
@pytest.mark.parametrize("shape", [(5, 3), (6, 3), (35, 17)])
def test_derivatives_in_everything(shape):
    """Backwards and forwards as by one factor, for one prompt and for several in one program."""
    phi, y, m, covariance = model(6, *shape)

    def evidence(way):
        return lambda phi, y, noise, m: way(phi, y, noise, m, covariance).log_evidence[-1]

    where = phi, y, 0.3, m
    wanted = jax.grad(evidence(by_factor), (0, 1, 2, 3))(*where)
    for derivative in (jax.grad, jax.jacfwd):
        found = jax.jit(derivative(evidence(linear_predictions), (0, 1, 2, 3)))(*where)
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-8)
    many = jax.jit(jax.vmap(jax.grad(evidence(linear_predictions)), in_axes=(0, 0, None, None)))
    several = many(np.stack([phi, -phi]), np.stack([y, y]), 0.3, np.zeros_like(m))
    np.testing.assert_allclose(several[0], -several[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_float32_stays(shape):
    phi, y, *_ = (np.float32(part) for part in model(9, *shape))
    exact = linear_predictions(np.float64(phi), np.float64(y), 0.5)
    for one, other in zip(linear_predictions(phi, y, np.float32(0.5)), exact, strict=True):
        assert one.dtype == jnp.float32
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(4, 2), (3, 2)])
def test_refusals_stay_where_only_the_mean_is_asked(shape):
    phi, y, *_ = model(1, *shape)
    mean = jax.jit(lambda noise, covariance: linear_predictions(phi, y, noise, 0.0, covariance).mean)
    assert np.isfinite(mean(0.1, np.eye(2))).all()
    with pytest.raises(Exception, match="noise must be above the rounding"):
        jax.block_until_ready(mean(1e-18, np.eye(2)))
    if shape == (4, 2):
        with pytest.raises(Exception, match="prior_covariance must be positive semidefinite"):
            jax.block_until_ready(mean(0.1, np.array([[1.0, 9.0], [9.0, 1.0]])))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"noise": -1.0}, "noise must be positive and finite, got -1.0"),
        ({"noise": 0.0}, "noise must be positive and finite, got 0.0"),
        ({"noise": 1e-18}, "noise must be above the rounding of the kernel"),
        ({"noise": np.ones(3)}, r"noise must be one variance or one for each of the 4 labels, got shape \(3,\)"),
        ({"y": np.array([1.0, np.nan, 0.0, 0.0])}, "y must be finite, got nan"),
        ({"prior_covariance": -1.0}, "prior_covariance must have non-negative variances, got -1.0"),
        ({"prior_covariance": np.ones(3)}, r"prior_covariance must have shape \(\), \(2,\) or \(2, 2\), got \(3,\)"),
        ({"prior_mean": np.ones(3)}, r"prior_mean must have shape \(\) or \(2,\), got \(3,\)"),
    ],
)
def test_refusals(change, sentence):
    arguments = {"features": np.ones((4, 2)), "y": np.zeros(4), "noise": 0.1} | change
    with pytest.raises(ValueError, match=sentence):
        linear_predictions(**arguments)
    with pytest.raises(ValueError, match="features must have a row for each label of y"):
        streaming_predictions.__wrapped__(np.ones((4, 2)), np.zeros(3), 0.1)
    with pytest.raises(ValueError, match="kernel must be square with a row for each label of y"):
        process_predictions.__wrapped__(np.eye(4), np.zeros(3), 0.1)


def test_impossible_evidence_is_refused():
    with pytest.raises(ValueError, match="log_density is impossible under every model"):
        log_posterior(np.array([[0.0, -np.inf], [-np.inf, 0.0]]))
    with pytest.raises(ValueError, match="log_density must not be NaN or"):
        log_posterior(np.array([[0.0, np.nan]]))
    with pytest.raises(ValueError, match="log_prior must leave one model possible"):
        log_posterior(np.zeros((2, 3)), np.full(2, -np.inf))
    with pytest.raises(ValueError, match=r"log_prior must have shape \(2,\), got \(3,\)"):
        log_posterior.__wrapped__(np.zeros((2, 3)), np.zeros(3))
    with pytest.raises(Exception, match="impossible under every model"):
        jax.block_until_ready(jax.jit(log_posterior)(np.array([[0.0, -np.inf], [-np.inf, 0.0]])))
    with pytest.raises(ValueError, match="kernel must be positive semidefinite"):
        process_predictions(-np.eye(3), np.zeros(3), 0.1)
