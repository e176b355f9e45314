"""Dynamical mean-field theory of nonlinear networks: feature learning at infinite width by sampling single neurons.

A network of L hidden layers, h^1 = W x / sqrt(d), h^{l+1} = W phi(h^l) / sqrt(N), f = w . phi(h^L) / (gamma N), all
weights N(0, 1), is trained at the rate gamma^2 N lr. As N grows each neuron obeys on its own, with Delta = (y - f) / P,

    h_mu(t) = u_mu(t) + gamma sum_{s<t, a} [ A^{l-1}(t, s) + lr Delta_a(s) Phi^{l-1}(t, s) ]_{mu a} g_a(s),
    z_mu(t) = r_mu(t) + sum_{s<=t, a} B^{l+1}(t, s)_{mu a} phi(h_a(s))
                      + gamma lr sum_{s<t, a} Delta_a(s) G^{l+1}(t, s)_{mu a} phi(h_a(s)),     g = phi'(h) z,

with u of covariance Phi^{l-1}, r of covariance G^{l+1}, Phi = <phi phi>, G = <g g>, and the mean responses of a neuron
to its own noise, A = <dphi(t)/dr(s)> / gamma and B = <dg(t)/du(s)>. Averages are over sampled neurons; they, and the
noise itself, are built forwards in time, so that nothing is iterated. What is left is the error of sampling.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import real, whole
from theory.lazy_rich.mean_field_linear import checked_training


class SampledMeanField(NamedTuple):
    """An infinitely wide network through training: T records, Q = P + R points (samples first), L hidden layers.

    `outputs`    f, (T, Q).
    `features`   Phi^l(t, s) = <phi(h_mu(t)) phi(h_nu(s))>, at (l, t, mu, s, nu), (L, T, Q, T, Q).
    `gradients`  G^l(t, s) = <g_mu(t) g_nu(s)>, likewise.
    """

    outputs: Float[Array, "T Q"]
    features: Float[Array, "L T Q T Q"]
    gradients: Float[Array, "L T Q T Q"]


def single_neuron_noise(key: Array, samples: int, steps: int, points: int, depth: int) -> Float[Array, "L 2 S T Q"]:
    """Standard normal numbers behind u and r of sampled neurons, in pairs that differ by the sign of r.

    Arguments:
        key: a JAX random key; samples: S, an even Python int; steps, depth: as for `sampled_mean_field`.
        points: Q, the number of samples and further points together.
    Returns:
        the noise, (depth, 2, S, steps + 1, Q). The signs make averages of odd order in r vanish exactly, as they do
        at infinite width.
    Holds when: always.
    Source: antithetic variables, a textbook way to sample.
    """
    samples, steps = whole("samples", samples, at_least=2), whole("steps", steps, at_least=0)
    if samples % 2:
        raise ValueError(f"samples must be even, got {samples}")
    shape = whole("depth", depth), 2, samples // 2, steps + 1, whole("points", points)
    noise = jax.random.normal(key, shape)
    return jnp.concatenate([noise, noise * jnp.array([1.0, -1.0])[None, :, None, None, None]], axis=2)


def sampled_mean_field(
    noise: Real[ArrayLike, "L 2 S T Q"],
    x: Real[ArrayLike, "P d"],
    y: Real[ArrayLike, " labels"],
    gamma: Real[ArrayLike, ""],
    lr: Real[ArrayLike, ""],
    activation: Callable[[Array], Array],
    points: Real[ArrayLike, "R inputs"] | None = None,
    *,
    responses: bool = True,
) -> SampledMeanField:
    """Nonlinear network of infinite width under gradient descent: outputs, features and signals at every step.

    f_mu(t) = sum_{s<t, a} [ A^L(t, s) + lr Delta_a(s) Phi^L(t, s) ]_{mu a}, and the equations at the top of this file.

    Arguments:
        noise: of `single_neuron_noise`; its shape sets the depth L, the samples S and the T - 1 steps.
        x, y: samples in rows (P, d) and labels (P,).
        gamma: richness, >= 0; at 0 the network is the kernel machine of its start.
        lr: step, > 0, of the loss (1/2P) sum (y - f)^2; the network's own rate is gamma^2 N lr.
        activation: phi, elementwise; twice differentiable where L > 1, since B holds <phi''(h) z> (gelu, not relu).
        points: further inputs in rows (R, d), on which the network is not trained; P + R = Q.
        responses: False leaves A and B out, as if a layer did not react to the noise it was given. Then only L = 1
            is right but for its outputs.
    Returns:
        the `SampledMeanField`. Its averages miss those of infinite width by order S^{-1/2}. Takes 16 S (T Q)^2 bytes
        for each layer in float64, and S (T Q)^3 operations.
    Holds when: width is infinite, f(0) = 0 or subtracted, one output; at any step at which descent is stable.
    Source: Bordelon & Pehlevan 2022 (arXiv:2205.09653); in discrete time and solved forwards, derived in
        derivations/lazy_rich/mean_field_sampled.py.
    """
    inputs, y, gamma, lr = checked_training(x, y, gamma, lr, points)
    noise = real("noise", noise)
    if noise.ndim != 5 or noise.shape[1] != 2 or noise.shape[-1] != len(inputs) or not noise.size:
        raise ValueError(f"noise must be of shape (L, 2, S, T, {len(inputs)}), got {noise.shape}")
    if noise.shape[0] > 1 and responses:
        _check_smooth(activation)
    return _sweep(noise, inputs @ inputs.T / inputs.shape[1], y, gamma, lr, activation, responses)


class _Layer(NamedTuple):
    """One layer's neurons (S, n) and averages (n, n), n = T Q, filled row by row in time.

    slope = phi'(h); roots are Cholesky factors of the covariances of u and r; coupling is C, in h = u + gamma C g;
    by_r = dg/dr and by_u = dg/du of each neuron.
    """

    phi: Array
    slope: Array
    g: Array
    root_u: Array
    root_r: Array
    features: Array
    gradients: Array
    a: Array
    b: Array
    coupling: Array
    by_r: Array
    by_u: Array


class _Now(NamedTuple):
    """The rows of one time: the first of them, traced, and how many there are, a Python int."""

    first: Array
    points: int


class _Given(NamedTuple):
    """What is known before training: noise (L, 2, S, n), and the kernels (n, n) below the first and above the last."""

    noise: Array
    bottom: Array
    top: Array
    gamma: Array
    lr: Array


@partial(jax.jit, static_argnames=("activation", "responses"))
def _sweep(noise, kernel, y, gamma, lr, activation, responses: bool) -> SampledMeanField:
    depth, _, samples, times, q = noise.shape
    p, n = len(y), times * q
    zeros = partial(jnp.zeros, dtype=kernel.dtype)
    tops = jnp.ones((n, n), kernel.dtype)
    given = _Given(noise.reshape(depth, 2, samples, n), jnp.tile(kernel, (times, times)), tops, gamma, lr)
    flat, square, cube = zeros((samples, n)), zeros((n, n)), zeros((samples, n, n))
    layers = [_Layer(*[flat] * 3, *[square] * 7, cube, cube if i else cube[:1]) for i in range(depth)]

    def at(t, state):
        layers, outputs, errors = state
        layers, bends, now = list(layers), [], _Now(t * q, q)
        for i in range(depth):
            below = layers[i - 1] if i else None
            layers[i], bend = _upwards(given, i, layers[i], below, errors, now, activation, responses)
            bends.append(bend)
        f = jnp.sum(_coupling(given, layers[-1], errors, now), axis=1)
        for i in reversed(range(depth)):
            above = layers[i + 1] if i + 1 < depth else None
            layers[i] = _downwards(given, i, layers[i], above, errors, now, bends[i], responses)
        missing = jnp.concatenate([(y - f[:p]) / p, zeros(q - p)])
        return tuple(layers), outputs.at[t].set(f), jax.lax.dynamic_update_slice(errors, missing, (now.first,))

    layers, outputs, _ = jax.lax.fori_loop(0, times, at, (tuple(layers), zeros((times, q)), zeros(n)))
    features, gradients = (jnp.stack([getattr(layer, name) for layer in layers]) for name in ("features", "gradients"))
    split = depth, times, q, times, q
    return SampledMeanField(outputs, features.reshape(split), gradients.reshape(split))


def _upwards(given: _Given, i: int, layer: _Layer, below, errors, now, activation, responses: bool):
    """One layer at time `now` in the forward pass, and phi''(h) there."""
    c = _coupling(given, below, errors, now)
    root = _grown_root(layer.root_u, given.bottom if below is None else below.features, now)
    h = given.noise[i, 0] @ _rows(root, now).T + given.gamma * layer.g @ c.T
    ones = jnp.ones_like(h)
    wave = lambda h: jax.jvp(activation, (h,), (ones,))  # noqa: E731
    (phi, slope), (_, bend) = jax.jvp(wave, (h,), (ones,))
    all_phi, a = _put(layer.phi, phi, now, axis=1), layer.a
    if responses:
        a = _put(a, jnp.mean(slope[:, :, None] * jnp.einsum("qn,snm->sqm", c, layer.by_r), axis=0), now)
    layer = layer._replace(
        phi=all_phi,
        slope=_put(layer.slope, slope, now, axis=1),
        root_u=root,
        features=_met(layer.features, phi, all_phi, now),
        a=a,
        coupling=_put(layer.coupling, c, now),
    )
    return layer, bend


def _downwards(given: _Given, i: int, layer: _Layer, above, errors, now, bend, responses: bool) -> _Layer:
    """The same layer in the backward pass."""
    over = given.top if above is None else above.gradients
    root = _grown_root(layer.root_r, over, now)
    d = given.gamma * given.lr * _rows(over, now) * errors
    d = d if above is None else d + _rows(above.b, now)
    z = given.noise[i, 1] @ _rows(root, now).T + layer.phi @ d.T
    slope = jax.lax.dynamic_slice_in_dim(layer.slope, now.first, now.points, axis=1)
    g = slope * z
    all_g = _put(layer.g, g, now, axis=1)
    layer = layer._replace(root_r=root, g=all_g, gradients=_met(layer.gradients, g, all_g, now))
    if not responses:
        return layer
    here = jax.nn.one_hot(now.first + jnp.arange(now.points), len(errors), dtype=z.dtype)
    # dg/dh through phi'' and through what the layer's own outputs send back.
    by_h = slope[:, :, None] * d * layer.slope[:, None, :] + (bend * z)[:, :, None] * here
    earlier = given.gamma * by_h @ layer.coupling
    by_r = slope[:, :, None] * here + earlier @ layer.by_r
    layer = layer._replace(by_r=_put(layer.by_r, by_r, now, axis=1))
    if i == 0:
        return layer
    by_u = by_h + earlier @ layer.by_u
    return layer._replace(by_u=_put(layer.by_u, by_u, now, axis=1), b=_put(layer.b, jnp.mean(by_u, axis=0), now))


def _coupling(given: _Given, below: _Layer | None, errors, now):
    """C(t, s < t) of the layer above `below`; `errors` are still zero from t on."""
    driven = given.lr * _rows(given.bottom if below is None else below.features, now) * errors
    return driven if below is None else driven + _rows(below.a, now)


def _rows(array, now):
    return jax.lax.dynamic_slice_in_dim(array, now.first, now.points, axis=0)


def _put(array, new, now, axis=0):
    return jax.lax.dynamic_update_slice_in_dim(array, new, now.first, axis=axis)


def _met(kept, new, all_of_them, now):
    """The symmetric matrix of averages `kept` with the rows and columns of time `now`."""
    block = new.T @ all_of_them / len(new)
    return _put(_put(kept, block, now), block.T, now, axis=1)


def _grown_root(root, covariance, now):
    """Cholesky factor with the rows of `now` filled in; a direction without variance gets none.

    Kernels of training are singular: an input that does not move has the same u at all times.
    """
    n = len(root)
    smallest = 1e4 * jnp.finfo(root.dtype).eps

    def row(j, root):
        i = now.first + j
        alive = jnp.diagonal(root) > 0
        wanted = jnp.where(alive, covariance[i], 0.0)
        solvable = jnp.where(alive[:, None], root, jnp.eye(n, dtype=root.dtype))
        found = jax.scipy.linalg.solve_triangular(solvable, wanted, lower=True)
        left = covariance[i, i] - found @ found
        pivot = jnp.sqrt(jnp.where(left > smallest * covariance[i, i], left, 0.0))
        return root.at[i].set(jnp.where(jnp.arange(n) < i, found, 0.0)).at[i, i].set(pivot)

    return jax.lax.fori_loop(0, now.points, row, root)


def _check_smooth(activation) -> None:
    """A kink's second derivative is a delta function, which automatic derivatives do not see."""
    slope = jax.vmap(jax.grad(lambda h: jnp.sum(activation(h))))
    with jax.ensure_compile_time_eval():
        h = jnp.asarray(np.linspace(-2.3, 2.1, 12))
        slopes, bends = np.asarray(slope(h)), np.asarray(jax.vmap(jax.grad(lambda h: slope(h[None])[0]))(h))
    if np.ptp(slopes) > 1e-9 and np.abs(bends).max() < 1e-9:
        raise ValueError(f"activation must be twice differentiable for depth > 1, got {activation!r}, which has a kink")
