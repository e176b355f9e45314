"""Interacting features: how nodes that a network has learned change the energy that its other nodes ascend.

Once some nodes have found their features, a node no longer ascends the energy of `theory.lazy_rich.feature_emergence`
but its own energy in the field of the others: what they already explain of the labels is worth less. For a cyclic group
of odd order M and all pairs of elements this has closed forms.

    one learned node       another node of its frequency is suppressed if its phases are the same and favoured if they
                           are not; other frequencies do not notice
    a frequency completed  (nodes of all phases): its own weight falls, and all other frequencies gain

The readout is the ridge regression of the labels on the features, decay eta; features and labels are centred.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import matrix, non_negative, positive, real
from theory.lazy_rich.feature_emergence import Ascent, centred, sphere_ascent


def ridge_loss(
    features: Real[ArrayLike, "n K"], labels: Real[ArrayLike, "samples M"], decay: Real[ArrayLike, ""]
) -> Float[Array, ""]:
    """Loss that is left when the readout is at its minimum: the potential of all features.

    J = min_V |Y - F V|^2 / 2 + eta |V|^2 / 2 = (eta / 2) Tr Y^T Q Y,   Q = (F F^T + eta)^{-1}.

    Arguments:
        features: F of n samples, (n, K); labels: Y, (n, M); both before centring.
        decay: eta > 0.
    Returns:
        J. Minus its gradient with respect to F is `lazy_gradient`.
    Holds when: always.
    Source: derived in derivations/lazy_rich/interacting_features.py.
    """
    f, y = centred(matrix("features", features)), matrix("labels", labels)
    y = centred(matrix("labels", y, rows=f.shape[0]))
    eta = positive("decay", decay)
    return jnp.sum(y * (y - f @ _readout(f, y, eta))) / 2


def field_energy(
    feature: Real[ArrayLike, " samples"],
    others: Real[ArrayLike, "n K"],
    labels: Real[ArrayLike, "rows M"],
    decay: Real[ArrayLike, ""],
) -> Float[Array, ""]:
    """Energy of a node in the field of the others: by how much the node lowers `ridge_loss`.

    E_j = (eta / 2) |Y^T Q_j f|^2 / (1 + f^T Q_j f),   Q_j = Q without the node.

    Arguments:
        feature: f, outputs of the node on n samples, (n,); others: those of the other nodes, (n, K).
        labels: Y, (n, M). All before centring.
        decay: eta > 0.
    Returns:
        E_j. Its gradient with respect to f is the column of `lazy_gradient` of all K + 1 nodes: each node ascends its
        own. Without others it is |Y^T f|^2 / (2 eta + 2 |f|^2).
    Holds when: always.
    Source: derived in derivations/lazy_rich/interacting_features.py.
    """
    f, others = real("feature", feature), centred(matrix("others", others))
    y = centred(matrix("labels", labels, rows=others.shape[0]))
    if f.shape != others.shape[:1]:
        raise ValueError(f"feature must hold {others.shape[0]} samples, got shape {f.shape}")
    f, eta = f - jnp.mean(f), positive("decay", decay)
    # Q_j f is what ridge regression on the others leaves of f, over eta.
    left = f - others @ _readout(others, f, eta)
    return jnp.sum((y.T @ left) ** 2) / (2 * (eta + f @ left))


def feature_overlap(first_shift: Real[ArrayLike, "..."], second_shift: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Cosine between the features of two nodes of one frequency, u, v and u', v' shifted in phase.

    o = [(cos 2a + cos 2b) / 8 + cos a cos b] / (5/4).

    Arguments: first_shift, second_shift: a between u and u', b between v and v', in radians; they broadcast.
    Returns: o, of the common shape. It is 1 without a shift; 0 for nodes of different frequencies.
    Holds when: cyclic group of odd order, all pairs, |u| = |v|; features are centred.
    Source: derived in derivations/lazy_rich/interacting_features.py.
    """
    a, b = real("first_shift", first_shift), real("second_shift", second_shift)
    return ((jnp.cos(2 * a) + jnp.cos(2 * b)) / 8 + jnp.cos(a) * jnp.cos(b)) / 1.25


def lone_energy(order: Real[ArrayLike, "..."], decay: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """`field_energy` of a learned node where there are no others: M / (4 eta + 5).

    Arguments: order: M, odd, >= 3; decay: eta >= 0; they broadcast.
    Returns: E_j of a node of norm one, a cosine of any frequency and phases; the same next to other learned ones.
    Holds when: cyclic group of odd order, all pairs.
    Source: derived in derivations/lazy_rich/interacting_features.py.
    """
    return positive("order", order) / (4 * non_negative("decay", decay) + 5)


def twin_energy_ratio(
    first_shift: Real[ArrayLike, "..."],
    second_shift: Real[ArrayLike, "..."],
    decay: Real[ArrayLike, "..."],
    learned: Real[ArrayLike, "..."] = 1.25,
) -> Float[Array, "..."]:
    """Energy of a node next to one learned node of its frequency, over `lone_energy`.

    [1 - 2 (1 - s) o cos(a + b) + (1 - s)^2 o^2] (1 + 5/(4 eta)) / (1 + (5/(4 eta)) (1 - (1 - s) o^2)),
    s = eta / (eta + n).

    Arguments:
        first_shift, second_shift: phases a, b between the two, in radians.
        decay: eta > 0; learned: n > 0, squared norm of the learned feature, 5/4 for weights of norm one. All broadcast.
    Returns:
        the ratio, of the common shape. Below 1 the node is repelled: a duplicate, a = b = 0, at s^2 in the numerator.
        Above 1, at other phases of the same frequency, it is favoured: one node does not exhaust its frequency.
    Holds when: cyclic group of odd order, all pairs, the node at a maximum of the energy of independent nodes.
    Source: derived in derivations/lazy_rich/interacting_features.py.
    """
    eta, n = positive("decay", decay), positive("learned", learned)
    o = feature_overlap(first_shift, second_shift)
    explained = n / (eta + n) * o
    turned = jnp.cos(jnp.asarray(first_shift) + jnp.asarray(second_shift))
    alone = 1.25 / eta
    return (1 - 2 * explained * turned + explained**2) * (1 + alone) / (1 + alone * (1 - explained * o))


def completed_energy(
    w: Real[ArrayLike, "*nodes D"], strengths: Real[ArrayLike, " F"], decay: Real[ArrayLike, ""]
) -> Float[Array, "*nodes"]:
    """Energy of a node where some frequencies are completed: learned by nodes of all phases.

    E_j = (2 / (M eta)) sum_{k != 0} s_k^2 |u^_k v^_k|^2 / (1 + (1/eta) sum_{ab} s_ab |f^_ab|^2),
    s_k = s_{k,+-k} = eta / (eta + S_k / 4),   s_{2k,0} = s_{0,2k} = eta / (eta + S_k / 16),   s_ab = 1 otherwise.

    Arguments:
        w: weights (u, v), (..., 2M), M odd.
        strengths: S_k = K c^2 for frequencies k = 1 .. (M-1)/2, >= 0: K nodes, of squared norm c each; 0 where the
            frequency is not learned.
        decay: eta > 0.
    Returns:
        E_j, of the nodes' leading axes; f^ is the unitary two-dimensional Fourier transform of f(g, h) = (u_g + v_h)^2.
    Holds when: cyclic group of odd order, all pairs; the phases of a frequency fill a grid of r x r, r >= 5 (or are
        spread evenly), and its nodes are cosines with |u| = |v|.
    Source: derived in derivations/lazy_rich/interacting_features.py.
    """
    w, left, eta = _checked_field(w, strengths, decay)
    return _completed_energy(w, *left, eta)


def completed_ascent(
    start: Real[ArrayLike, "*nodes D"], strengths: Real[ArrayLike, " F"], decay: Real[ArrayLike, ""]
) -> Ascent:
    """Ends of the ascent of `completed_energy` on the unit sphere, each node by itself.

    Arguments: as for `completed_energy`, start not zero.
    Returns: the `Ascent`, to a residual of 1e-6 or as far as 1000 steps lead. Maxima are one frequency and a small
        constant, which makes the feature smaller.
    Holds when: as for `completed_energy`; the learned nodes stay as they are.
    Source: derived in derivations/lazy_rich/interacting_features.py.
    """
    return _completed_ascent(*_checked_field(start, strengths, decay))


@jax.jit
def _completed_ascent(w, left, eta) -> Ascent:
    nodes = w.reshape(-1, w.shape[-1])
    energy = lambda w: _completed_energy(w, *left, eta)  # noqa: E731
    end = jax.vmap(lambda w: sphere_ascent(energy, w, tolerance=1e-6, most=1000))(nodes)
    return jax.tree.map(lambda x: x.reshape(w.shape[:-1] + x.shape[1:]), end)


def _completed_energy(w, by_frequency, by_mode, eta):
    m = by_mode.shape[0]
    u, v = jnp.split(w, 2, axis=-1)
    feature = jnp.fft.fft2((u[..., :, None] + v[..., None, :]) ** 2) / m
    # The mean is no mode of a centred feature.
    size = jnp.abs(feature) ** 2 * (by_mode * jnp.ones((m, m)).at[0, 0].set(0.0))
    product = jnp.abs(jnp.fft.fft(u)[..., 1:] * jnp.fft.fft(v)[..., 1:]) ** 2
    signal = 2 / m * jnp.sum(by_frequency[1:] ** 2 * product, axis=-1)
    return signal / (eta + jnp.sum(size, axis=(-2, -1)))


def _checked_field(w, strengths, decay):
    """Weights; what ridge regression leaves of each frequency, (M,), and of each mode, (M, M); the decay."""
    w, s, eta = real("w", w), non_negative("strengths", strengths), positive("decay", decay)
    m = w.shape[-1] // 2 if w.ndim else 0
    if s.ndim != 1 or w.shape[-1:] != (2 * m,) or m != 2 * s.size + 1:
        raise ValueError(
            f"w must have 2 M entries along its last axis, M = {2 * s.size + 1} for {s.size} strengths, "
            f"got shape {w.shape}"
        )
    k = jnp.arange(1, s.size + 1)
    interaction, square = eta / (eta + s / 4), eta / (eta + s / 16)
    by_frequency = jnp.ones(m, w.dtype).at[k].set(interaction).at[-k].set(interaction)
    by_mode = jnp.ones((m, m), w.dtype)
    for a in (k, -k):
        by_mode = by_mode.at[a, k].set(interaction).at[a, -k].set(interaction)
        by_mode = by_mode.at[2 * a % m, 0].set(square).at[0, 2 * a % m].set(square)
    return w, (by_frequency, by_mode), eta


def _readout(f, y, eta):
    """(F^T F + eta)^{-1} F^T y: the ridge regression of y on F."""
    return jnp.linalg.solve(f.T @ f + eta * jnp.eye(f.shape[1], dtype=f.dtype), f.T @ y)
