"""Bandits: every history by hand, Bellman's optimum, conditioning, volumes, bounds that hold, refusals."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from theory.bayes_icl.bandits import (
    bayes_regret,
    bayes_ucb_index,
    best_arm_entropy,
    confidence_radius,
    elliptical_potential,
    gaussian_arms,
    greedy_policy,
    histories,
    linucb_index,
    linucb_regret_bound,
    thompson_policy,
    thompson_regret_bound,
    ucb_index,
)
from theory.bayes_icl.best_arm import gaussian_best_arm

ROUNDS = 5
THOMPSON = np.asarray(thompson_policy(ROUNDS, 2))
potential, radius, regret_of = (jax.jit(f) for f in (elliptical_potential, confidence_radius, bayes_regret))


def played_out(policy, prior):
    """Bayes regret of each round from all sequences of arms and rewards, their chances by Beta integrals."""
    a, b = prior
    grid = (np.arange(2000) + 0.5) / 2000
    best = 1 - np.mean(stats.beta.cdf(grid, a, b) ** 2)
    regret = np.zeros(ROUNDS)
    for t in range(ROUNDS):
        for path in itertools.product(itertools.product((0, 1), (1, 0)), repeat=t):
            seen, chance = np.zeros((2, 2), int), 1.0
            for arm, reward in path:
                total = np.array(prior) + seen[arm]
                chance *= policy[tuple(seen.ravel())][arm] * (total[0] if reward else total[1]) / total.sum()
                seen[arm, 1 - reward] += 1
            counts = np.array(prior) + seen
            regret[t] -= chance * policy[tuple(seen.ravel())] @ (counts[:, 0] / counts.sum(axis=1))
    return best + regret


@pytest.mark.parametrize("prior", [(1.0, 1.0), (2.0, 0.5)])
def test_bayes_regret_of_any_policy(prior):
    chance = np.random.default_rng(0).uniform(size=(ROUNDS,) * 4)
    policy = np.stack([chance, 1 - chance], axis=-1)
    np.testing.assert_allclose(regret_of(policy, np.array(prior)), played_out(policy, prior), atol=3e-6)


def optimal_regret():
    """Bellman: the largest mean sum of rewards, from the last round back; as the regret of all rounds."""

    def value(seen):
        left = ROUNDS - sum(seen)
        if not left:
            return 0.0
        options = []
        for arm in (0, 1):
            won, lost = seen[2 * arm], seen[2 * arm + 1]
            mean = (1 + won) / (2 + won + lost)
            after = [tuple(n + (i == 2 * arm + k) for i, n in enumerate(seen)) for k in (0, 1)]
            options.append(mean * (1 + value(after[0])) + (1 - mean) * value(after[1]))
        return max(options)

    return ROUNDS * 2 / 3 - value((0, 0, 0, 0))


def test_thompson_between_the_optimum_and_chance():
    thompson, greedy = (float(np.sum(regret_of(p))) for p in (THOMPSON, greedy_policy(ROUNDS, 2)))
    chance = float(np.sum(regret_of(np.full((ROUNDS,) * 4 + (2,), 0.5))))
    np.testing.assert_allclose(chance, ROUNDS * (2 / 3 - 1 / 2), rtol=1e-12)
    assert optimal_regret() <= greedy < thompson < chance
    bound = thompson_regret_bound(best_arm_entropy(np.full(2, 0.5)), 2, ROUNDS)
    assert thompson < bound


def test_thompson_policy():
    """The first round is a toss; one success is worth 2/3; arms exchanged exchange their chances."""
    np.testing.assert_allclose(THOMPSON[0, 0, 0, 0], 0.5, rtol=1e-12)
    np.testing.assert_allclose(THOMPSON[1, 0, 0, 0], [2 / 3, 1 / 3], rtol=1e-12)
    # The distribution of Beta(2, 1) is p^2, whose mean under Beta(3, 2) is 3 4 / (5 6).
    np.testing.assert_allclose(THOMPSON[2, 1, 1, 0], [0.4, 0.6], rtol=1e-12)
    np.testing.assert_allclose(THOMPSON, np.transpose(THOMPSON, (2, 3, 0, 1, 4))[..., ::-1], atol=1e-13)
    states = histories(ROUNDS, 2)
    assert len(states) == 70 and states.sum(axis=1).max() == ROUNDS - 1
    np.testing.assert_allclose(THOMPSON.sum(axis=-1)[tuple(states.T)], 1, rtol=1e-12)
    assert THOMPSON.sum() == pytest.approx(70, rel=1e-12)


def test_greedy_policy():
    greedy = np.asarray(greedy_policy(4, 2))
    assert greedy[0, 0, 0, 0] == pytest.approx([0.5, 0.5])
    assert greedy[1, 0, 0, 0] == pytest.approx([1, 0])
    assert greedy[0, 0, 2, 1] == pytest.approx([0, 1])
    assert greedy[1, 1, 0, 0] == pytest.approx([0.5, 0.5])


def test_gaussian_arms():
    """Dense conditioning of the mean and of every reward on each other."""
    rewards = [np.array([0.3, 1.0, -0.4]), np.array([]), np.array([2.0])]
    found = gaussian_arms([3, 0, 1] * np.ones(3), np.array([r.sum() for r in rewards]), 0.5, 0.7, 1.5)
    for arm, r in enumerate(rewards):
        kernel = 1.5 + 0.5 * np.eye(len(r))
        gain = np.linalg.solve(kernel, np.full(len(r), 1.5)) if len(r) else np.zeros(0)
        np.testing.assert_allclose(found.mean[arm], 0.7 + gain @ (r - 0.7), rtol=1e-12)
        np.testing.assert_allclose(found.variance[arm], 1.5 - 1.5 * gain.sum(), rtol=1e-12)
    assert np.isfinite(gaussian_best_arm(*found).probability).all()


def test_indices():
    found = ucb_index(np.array([0.5, 0.5, 0.2]), np.array([8.0, 0.0, 2.0]), np.e**4)
    np.testing.assert_allclose(found, [1.5, np.inf, 2.2])
    assert np.isfinite(jax.grad(lambda n: ucb_index(0.5, n, 3.0))(0.0))
    np.testing.assert_allclose(bayes_ucb_index(1.0, 4.0, 20.0), stats.norm.ppf(0.95, 1, 2), rtol=1e-12)
    np.testing.assert_allclose(bayes_ucb_index(1.0, 4.0, 2.0), 1.0, atol=1e-14)


@given(st.integers(0, 2**16), st.sampled_from([0.1, 1.0, 7.0]))
def test_elliptical_potential(seed, ridge):
    x = np.random.default_rng(seed).normal(size=(30, 3))
    x /= np.maximum(1, np.linalg.norm(x, axis=1, keepdims=True))
    found = potential(x, ridge)
    volume = np.linalg.slogdet(np.eye(3) + x.T @ x / ridge)[1]
    np.testing.assert_allclose(found.log_det, volume, rtol=1e-11)
    before = ridge * np.eye(3) + x[:10].T @ x[:10]
    np.testing.assert_allclose(found.widths[10], x[10] @ np.linalg.solve(before, x[10]), rtol=1e-10)
    assert np.minimum(1, found.widths).sum() <= 2 * volume
    assert volume <= 3 * np.log1p(30 / (3 * ridge))


def test_linucb():
    rng = np.random.default_rng(3)
    arms, seen, rewards = rng.normal(size=(4, 3)), rng.normal(size=(6, 3)), rng.normal(size=6)
    v = 0.3 * np.eye(3) + seen.T @ seen
    width = np.sqrt(np.einsum("kd,kd->k", arms, np.linalg.solve(v, arms.T).T))
    expected = arms @ np.linalg.solve(v, seen.T @ rewards) + 1.7 * width
    np.testing.assert_allclose(linucb_index(arms, seen, rewards, 0.3, 1.7), expected, rtol=1e-10)
    unseen = linucb_index(arms, np.zeros((0, 3)), np.zeros(0), 0.25, 1.0)
    np.testing.assert_allclose(unseen, 2 * np.linalg.norm(arms, axis=1), rtol=1e-12)


def test_linucb_keeps_its_promises():
    """Bandits of unit length: confidence sets hold, and so does the bound on the regret."""
    rng = np.random.default_rng(5)
    rounds, d, ridge, noise = 40, 3, 1.0, 0.3
    arms = rng.normal(size=(6, d))
    arms /= np.linalg.norm(arms, axis=1, keepdims=True)
    for _ in range(5):
        theta = rng.normal(size=d)
        theta /= np.linalg.norm(theta)
        seen, regret, v, moment = [], 0.0, ridge * np.eye(d), np.zeros(d)
        for _ in range(rounds):
            log_det = np.linalg.slogdet(v / ridge)[1]
            beta = float(radius(max(log_det, 0.0), ridge, noise, 0.01))
            error = np.linalg.solve(v, moment) - theta
            assert error @ v @ error <= beta**2
            index = arms @ np.linalg.solve(v, moment) + beta * np.sqrt(
                np.einsum("kd,kd->k", arms, np.linalg.solve(v, arms.T).T)
            )
            x = arms[index.argmax()]
            regret += np.max(arms @ theta) - x @ theta
            v, moment = v + np.outer(x, x), moment + x * (x @ theta + noise * rng.normal())
            seen.append(x)
        found = elliptical_potential(np.array(seen), ridge)
        assert regret <= linucb_regret_bound(
            confidence_radius(found.log_det, ridge, noise, 0.01), found.log_det, rounds
        )


def test_bounds_and_entropies():
    np.testing.assert_allclose(best_arm_entropy(np.array([[0.25] * 4, [1, 0, 0, 0]])), [np.log(4), 0], atol=1e-15)
    assert np.isfinite(jax.grad(best_arm_entropy)(np.array([1.0, 0.0]))).all()
    # Rewards in [0, 1]: sqrt(K H T / 2).
    np.testing.assert_allclose(thompson_regret_bound(1.2, 5, 100), np.sqrt(5 * 1.2 * 100 / 2), rtol=1e-14)
    np.testing.assert_allclose(confidence_radius(3.0, 4.0, 0.5, 1.0, 1.5), 0.5 * np.sqrt(3) + 3, rtol=1e-14)
    np.testing.assert_allclose(confidence_radius(3.0, 4.0, 0.5, np.exp(-3.0), 0.0), 0.5 * 3, rtol=1e-14)
    np.testing.assert_allclose(linucb_regret_bound(3.0, 2.0, 25), 2 * 3 * 10, rtol=1e-14)
    np.testing.assert_allclose(linucb_regret_bound(0.1, 2.0, 25), 2 * 10, rtol=1e-14)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gaussian_arms(np.array([1.0, -1.0]), np.zeros(2), 1.0), "counts must be non-negative and finite"),
        (lambda: gaussian_arms(np.ones(2), np.zeros(3), 1.0), "sums must hold a number for each arm"),
        (lambda: gaussian_arms(np.ones(2), np.zeros(2), 0.0), "noise must be positive and finite, got 0.0"),
        (lambda: ucb_index(0.0, 1.0, 0.5), "t must be at least 1, got 0.5"),
        (lambda: bayes_ucb_index(0.0, 1.0, 1.0), "t must be above 1, got 1.0"),
        (lambda: elliptical_potential(np.ones((2, 2)), 0.0), "ridge must be positive"),
        (lambda: confidence_radius(1.0, 1.0, 1.0, 0.0), "failure must be positive, got 0.0"),
        (lambda: confidence_radius(1.0, 1.0, 1.0, 1.2), "failure must lie between 0 and 1, got 1.2"),
        (
            lambda: linucb_index(np.ones((2, 3)), np.ones((1, 2)), np.ones(1), 1.0, 1.0),
            r"actions must be a matrix of shape \(any, 3\)",
        ),
        (lambda: best_arm_entropy(np.array([1.2, -0.2])), "probability must lie between 0 and 1, got 1.2"),
        (lambda: thompson_regret_bound(-1.0, 2, 3), "entropy must be non-negative"),
        (lambda: bayes_regret(np.ones((3, 3, 2))), "policy must have two axes of T"),
        (lambda: bayes_regret(THOMPSON, np.ones(3)), r"prior must be \(alpha, beta\)"),
        (lambda: thompson_policy(3, 2, np.array([0.2, 1.0])), "prior must be at least 1/2"),
        (lambda: histories(0, 2), "rounds must be a whole number"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
