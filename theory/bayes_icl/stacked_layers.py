"""How well k layers can do: the best steps of gradient descent, and of descent that shrinks its inputs.

A rule that filters the spectrum of X^T X leaves an error that depends on its shares alone; a step of gradient descent
adds one degree to the polynomial 1 - share, a layer of GD++ triples it. What is best for a law of prompts follows from
eigenvalues drawn from it: by a linear least-squares problem for gradient descent, by a small non-linear one for GD++.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, ArrayLike, Float, Real

from theory.bayes_icl.gradient_descent_layers import shrinking_shares
from theory.checks import matrix, non_negative, positive, real, whole


class BestDescent(NamedTuple):
    """The best k steps of gradient descent with rates of their own: `risk`, and their `shares` (P, d)."""

    risk: Float[Array, ""]
    shares: Float[Array, "P d"]


class BestLayers(NamedTuple):
    """The best k layers of GD++: `risk`, and `rates` and `shrinking` of each, (k,); the last one shrinks nothing."""

    risk: Float[Array, ""]
    rates: Float[Array, " k"]
    shrinking: Float[Array, " k"]


def filter_risk(
    eigenvalues: Real[ArrayLike, "P d"],
    shares: Real[ArrayLike, "P d"],
    noise: Real[ArrayLike, ""] = 0.0,
    task_variance: Real[ArrayLike, ""] = 1.0,
) -> Float[Array, ""]:
    """Mean square distance of the weights of a rule to the task, for Gaussian tasks.

    E |w_f - w|^2 = (1/P) sum_p sum_i [tau^2 (1 - f_pi)^2 + sigma^2 f_pi^2 / lambda_pi].

    Arguments:
        eigenvalues: lambda >= 0 of X^T X of P prompts, (P, d); shares: f of the least-squares solution, (P, d).
        noise: sigma^2 >= 0; task_variance: tau^2 >= 0 of each weight.
    Returns:
        (): for white inputs of variance one the excess risk, too. Where lambda = 0 nothing is learned: f is taken as 0.
    Source: derived in derivations/bayes_icl/stacked_layers.py.
    """
    lam, f = non_negative("eigenvalues", eigenvalues), real("shares", shares)
    seen = lam > 0
    f = jnp.where(seen, f, 0.0)
    lost = non_negative("task_variance", task_variance) * (1 - f) ** 2
    return jnp.sum(lost + non_negative("noise", noise) * f**2 / jnp.where(seen, lam, 1.0)) / len(lam)


def best_descent(
    eigenvalues: Real[ArrayLike, "P d"],
    steps: int,
    noise: Real[ArrayLike, ""] = 0.0,
    task_variance: Real[ArrayLike, ""] = 1.0,
) -> BestDescent:
    """The best that steps of gradient descent can do on a law of prompts, each with a rate of its own.

    min over f = lambda q(lambda), deg q < k, of `filter_risk`; without noise and for k + 1 eigenvalues in all the
    least sum of squares is 1 / sum_i l_i(0)^2, with l_i their Lagrange polynomials.

    Arguments:
        eigenvalues: of X^T X of P prompts, (P, d); steps: k, a Python int >= 1.
        noise: sigma^2 >= 0; task_variance: tau^2 > 0.
    Returns:
        `BestDescent`.
    Holds when: some twenty steps at most; the rates, 1 / the roots of 1 - f, may be complex in pairs: with momentum,
        or two steps taken as one, they are steps all the same.
    Source: derived in derivations/bayes_icl/stacked_layers.py.
    """
    lam = matrix("eigenvalues", non_negative("eigenvalues", eigenvalues))
    k, sigma = whole("steps", steps), jnp.sqrt(non_negative("noise", noise))
    tau = jnp.sqrt(positive("task_variance", task_variance))
    flat = lam.ravel()
    largest = jnp.maximum(flat.max(), jnp.finfo(flat.dtype).tiny)
    angle = jnp.arccos(jnp.clip(2 * flat / largest - 1, -1, 1))
    # Chebyshev's polynomials, which stay apart where powers do not.
    share = flat[:, None] / largest * jnp.cos(angle[:, None] * jnp.arange(k))
    error = sigma * jnp.where(flat > 0, 1 / jnp.sqrt(jnp.where(flat > 0, flat, 1.0)), 0.0)[:, None] * share
    system = jnp.concatenate([tau * share, error])
    target = jnp.concatenate([jnp.broadcast_to(tau, flat.shape), jnp.zeros_like(flat)])
    f = (share @ jnp.linalg.lstsq(system, target)[0]).reshape(lam.shape)
    return BestDescent(filter_risk(lam, f, noise, task_variance), f)


def best_layers(
    eigenvalues: Real[ArrayLike, "P d"],
    layers: int,
    noise: Real[ArrayLike, ""] = 0.0,
    task_variance: Real[ArrayLike, ""] = 1.0,
) -> BestLayers:
    """The best layers of GD++ on a law of prompts, by Levenberg and Marquardt from many starts.

    min over rates and shrinking of `filter_risk` at the shares of `shrinking_shares`.

    Arguments:
        eigenvalues: of X^T X of P prompts, (P, d), not all zero; layers: k, a Python int from 1 to 4.
        noise: sigma^2 >= 0; task_variance: tau^2 > 0.
    Returns:
        `BestLayers`, in the units of the eigenvalues: `shrinking_descent` takes both parts as they are.
    Holds when: up to four layers. There are many local minima: the best of eighteen starts counts.
    Source: the layers of von Oswald et al. 2023 (arXiv:2212.07677); one layer in closed form in derivations.
    """
    lam = matrix("eigenvalues", non_negative("eigenvalues", eigenvalues))
    k = whole("layers", layers)
    if k > 4:
        raise ValueError(f"layers must be at most 4, got {layers}")
    scale = jnp.mean(lam)
    sigma2, tau2 = non_negative("noise", noise), positive("task_variance", task_variance)
    risk, rates, shrinking = _best(lam / scale, k, sigma2 / scale, tau2)
    return BestLayers(risk, rates / scale, shrinking / scale)


@functools.partial(jax.jit, static_argnums=1)
def _best(lam, k: int, noise, tau2):
    """In units of the mean eigenvalue, where the best first rate is of order one."""
    sigma, tau = jnp.sqrt(noise), jnp.sqrt(tau2)
    inverse = jnp.where(lam > 0, 1 / jnp.sqrt(jnp.where(lam > 0, lam, 1.0)), 0.0)

    def residuals(theta, _):
        f = shrinking_shares(lam.ravel(), theta[:k], jnp.append(theta[k:], 0.0)).reshape(lam.shape)
        return jnp.stack([tau * (1 - f), sigma * f * inverse]) / len(lam) ** 0.5

    def solve(theta):
        solver = optx.LevenbergMarquardt(rtol=1e-10, atol=1e-12)
        found = optx.least_squares(residuals, solver, theta, max_steps=400, throw=False).value
        return found, jnp.sum(residuals(found, None) ** 2)

    # Later layers see smaller eigenvalues: their rates grow by a factor of some three to six, their shrinking too.
    top = jnp.max(lam)
    starts = [
        jnp.append(first / top * growth ** np.arange(k), second / top * growth ** np.arange(k - 1))
        for growth in (2.0, 4.0, 6.0)
        for first in (1.0, 2.0)
        for second in (0.5, 1.0, 1.5)
    ]
    found, risks = jax.lax.map(solve, jnp.stack(starts))
    best = found[jnp.argmin(jnp.where(jnp.isfinite(risks), risks, jnp.inf))]

    # Levenberg and Marquardt's last digits come slowly where residuals stay: Newton's steps bring them.
    def risk(theta):
        return jnp.sum(residuals(theta, None) ** 2)

    def polished(_, theta):
        new = theta - jnp.linalg.solve(jax.hessian(risk)(theta), jax.grad(risk)(theta))
        return jnp.where(risk(new) <= risk(theta) * (1 + 1e-12), new, theta)

    best = jax.lax.fori_loop(0, 4, polished, best)
    return risk(best), best[:k], jnp.append(best[k:], 0.0)
