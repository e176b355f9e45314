"""Attention as a support vector machine: trained long enough, a softmax selects tokens by a largest margin.

One layer with one query z_i for each sample of T tokens x_it, and a frozen readout v, gives

    f_i = sum_t s_it v.x_it,   s_i = softmax_t (x_it . W z_i).

A loss that falls with gamma_i = y_i f_i has no minimum at a finite W: attention on the token alpha_i of the best score
y_i v.x_it tends to one. W grows for ever, and its direction tends to that of

    min |W|   with   <W, phi_it> >= 1  for t != alpha_i,    phi_it = (x_{i alpha_i} - x_it) z_i^T,

in the Frobenius norm if W is trained, in the nuclear norm if W = K Q^T and K and Q are. The reason: far out the excess
loss is sum w_it exp(-<W, phi_it>), an exponential loss on separable data. That also says how fast: the offset of W from
the ray stays finite, so that the angle falls as 1/|W|, and it says where the last attention on wrong tokens goes.
Samples are rows, tokens come second; all sums over i and t leave the selected token out.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Real

from theory.checks import non_negative, positive, real, require
from theory.induction.max_margin import MaxMargin, checked_choices, margin_features, other_tokens


def loss_weights(values: Real[ArrayLike, "n T"], selected: Int[ArrayLike, " choices"]) -> Float[Array, "n T"]:
    """What wrong attention costs: the excess logistic loss far out is sum w_it exp(-<W, phi_it>).

    w_it = (1/n) (gamma_{i alpha} - gamma_it) / (1 + exp(gamma_{i alpha})).

    Arguments:
        values: token scores gamma_it = y_i v.x_it, (n, T).
        selected: alpha_i, (n,).
    Returns:
        w, (n, T), 0 for selected tokens; negative where another token scores better than the selected one.
    Holds when: the loss is (1/n) sum_i ln(1 + exp(-gamma_i)), and attention is nearly all on the selected tokens.
    Source: derived in derivations/induction/attention_svm.py.
    """
    gamma = _token_table("values", values)
    best = jnp.take_along_axis(gamma, checked_choices(selected, *gamma.shape)[:, None], axis=1)
    return (best - gamma) * jax.nn.sigmoid(-best) / gamma.shape[0]


def attention_slope(scores: Real[ArrayLike, "... T"], values: Real[ArrayLike, "... T"]) -> Float[Array, "... T"]:
    """Derivative of what attention reads, sum_t s_t gamma_t, in the scores: accurate however sharp attention is.

    df/da_t = s_t sum_u s_u (gamma_t - gamma_u),   s = softmax(a).

    Arguments, which broadcast:
        scores: a, (..., T); values: gamma, (..., T).
    Returns:
        the derivatives, (..., T). In the form s_t (gamma_t - f) they cancel once 1 - s_t is below rounding, and a
        descent that uses it turns away from the direction that it had found.
    Holds when: always.
    Source: the derivative of a softmax.
    """
    s = jax.nn.softmax(real("scores", scores), axis=-1)
    gamma = real("values", values)
    return s * jnp.sum(s[..., None, :] * (gamma[..., :, None] - gamma[..., None, :]), axis=-1)


def locally_optimal(
    solution: MaxMargin | tuple, values: Real[ArrayLike, "n T"], selected: Int[ArrayLike, " choices"]
) -> Bool[Array, ""]:
    """Whether descent that starts near this direction stays: selected tokens score better than those next to them.

    gamma_{i alpha} > gamma_it for every support vector, <W, phi_it> = 1.

    Arguments:
        solution: of `max_margin` for these tokens; values: gamma_it, (n, T); selected: alpha_i, (n,).
    Returns:
        true or false. For the tokens of best score always true: they are the global solution.
    Holds when: margins of other tokens are above 1 by more than 1e-6.
    Source: Tarzanagh et al. 2023 (arXiv:2308.16898), definition of locally optimal tokens.
    """
    solution, w = MaxMargin(*solution), loss_weights(values, selected)
    nearby = _support(solution, selected)
    return jnp.all(jnp.where(nearby, w > 0, True))


def residual_attention(
    solution: MaxMargin | tuple, values: Real[ArrayLike, "n T"], selected: Int[ArrayLike, " choices"]
) -> Float[Array, "n T"]:
    """Shares of the last attention on wrong tokens, over all samples, where the weights are large.

    s_it / sum s -> (lambda_it / w_it) / sum (lambda / w):   the pull w s of each token is its multiplier.

    Arguments:
        solution: of `max_margin`, in either norm; values: gamma_it, (n, T); selected: alpha_i, (n,).
    Returns:
        shares, (n, T), which add up to one; 0 for selected tokens and where lambda is.
    Holds when: as |W| -> infinity along gradient descent towards this solution, the multipliers of which are unique.
    Source: derived in derivations/induction/attention_svm.py, after Soudry et al. 2018 (arXiv:1710.10345).
    """
    solution = MaxMargin(*solution)
    w = _pulls(values, selected)
    share = non_negative("solution.multipliers", solution.multipliers) / w
    return share / jnp.sum(share)


def path_offset(
    solution: MaxMargin | tuple,
    tokens: Real[ArrayLike, "n T d"],
    queries: Real[ArrayLike, "samples e"],
    values: Real[ArrayLike, "rows columns"],
    selected: Int[ArrayLike, " choices"],
) -> Float[Array, "d e"]:
    """How far large trained weights W(t) = W ln t + rho lie beside the ray of largest margin W.

    <rho, phi_it> = ln(w_it / lambda_it) for support vectors,   rho in their span.

    Arguments:
        solution: of `max_margin` in the Frobenius norm; tokens, queries, selected: as there.
        values: token scores gamma_it, (n, T).
    Returns:
        rho, (d, e). Descent comes to it as exp(-rate kappa), see `relaxation_rate`. It is also the offset of the best
        weights of a given |W|, the regularisation path, there to leading order in 1 / |W|.
    Holds when: every lambda of a support vector is above 1e-6 of their mean, and all phi are support vectors, or rho is
        meant for the regularisation path: other tokens leave in W, trained from zero, a part that they alone span.
    Source: Soudry et al. 2018 (arXiv:1710.10345), theorem 4, for the exponential loss of this problem.
    """
    solution = MaxMargin(*solution)
    left, right = margin_features(tokens, queries, selected)
    multipliers = non_negative("solution.multipliers", solution.multipliers)
    w, lam = (other_tokens(table, selected) for table in (_pulls(values, selected), multipliers))
    support = lam > 1e-6 * jnp.mean(lam)
    wanted = jnp.where(support, jnp.log(w / jnp.where(support, lam, 1.0)), 0.0)
    gram = (left @ left.T) * (right @ right.T)
    both = support[:, None] & support[None, :]
    kappa = jnp.linalg.pinv(jnp.where(both, gram, 0.0), hermitian=True) @ wanted
    return jnp.einsum("c,cd,ce->de", kappa, left, right)


def misalignment(
    size: Real[ArrayLike, "*sizes"], solution: MaxMargin | tuple, offset: Real[ArrayLike, "d e"]
) -> Float[Array, "*sizes"]:
    """1 - cosine between trained weights of Frobenius norm `size` and the ray of largest margin.

    1 - sqrt(1 - |rho_perp|^2 / |W|^2) = |rho_perp|^2 / 2 |W|^2 + ...,   rho_perp = rho - W <W, rho> / <W, W>.

    Arguments:
        size: |W| > 0 of the trained weights, any shape; solution: of `max_margin`, Frobenius.
        offset: rho of `path_offset`, (d, e).
    Returns:
        the misalignment, of the shape of size; 1 where size is below |rho_perp|.
    Holds when: exp(-rate kappa) << 1, kappa = |W| over that of the ray at margin one: the order of what is left out.
    Source: derived in derivations/induction/attention_svm.py.
    """
    size, rho, w = positive("size", size), real("offset", offset), real("weights", MaxMargin(*solution).weights)
    beside = rho - w * jnp.sum(w * rho) / jnp.sum(w * w)
    ratio = jnp.minimum(jnp.sum(beside**2) / size**2, 1.0)
    # Without the cancellation of 1 - sqrt(1 - small).
    return ratio / (1 + jnp.sqrt(1 - ratio))


def relaxation_rate(
    solution: MaxMargin | tuple,
    tokens: Real[ArrayLike, "n T d"],
    queries: Real[ArrayLike, "samples e"],
    selected: Int[ArrayLike, " choices"],
) -> Float[Array, ""]:
    """How fast the offset of trained weights settles, over the margin kappa: deviations fall as exp(-rate kappa).

    The smallest eigenvalue of G Lambda, G = <phi, phi'>, Lambda = diag(lambda);   at most 1, that of a shift of time.

    Arguments:
        solution: of `max_margin` in the Frobenius norm; tokens, queries, selected: as there.
    Returns:
        the rate, between 0 and 1.
    Holds when: all phi are linearly independent support vectors; kappa = |W(t)| / |W| is large. With dependent ones,
        or others, the rate is zero.
    Source: derived in derivations/induction/attention_svm.py.
    """
    left, right = margin_features(tokens, queries, selected)
    multipliers = non_negative("solution.multipliers", MaxMargin(*solution).multipliers)
    root = jnp.sqrt(other_tokens(multipliers, selected))
    least = jnp.linalg.eigvalsh(root[:, None] * (left @ left.T) * (right @ right.T) * root)[0]
    return jnp.clip(least, 0.0, 1.0)


def margin_deficit(
    size: Real[ArrayLike, "*sizes"],
    solution: MaxMargin | tuple,
    values: Real[ArrayLike, "n T"],
    selected: Int[ArrayLike, " choices"],
) -> Float[Array, "*sizes"]:
    """Most by which the margin of the best weights of finite norm falls short of the largest one, relative to it.

    1 - |W_max| min <W, phi> / |W|  <=  ln(sum w / min w) |W_max| / |W|.

    Arguments:
        size: |W| > 0, in the norm of the solution, any shape; solution: of `max_margin`, in either norm.
        values: gamma_it, (n, T); selected: alpha_i, (n,).
    Returns:
        the bound, of the shape of size; above 1 it says nothing.
    Holds when: W minimises sum w exp(-<W, phi>) under a bound on its norm (the regularisation path); then always.
    Source: derived in derivations/induction/attention_svm.py.
    """
    size, solution = positive("size", size), MaxMargin(*solution)
    w = other_tokens(_pulls(values, selected), selected)
    return jnp.log(jnp.sum(w) / jnp.min(w)) * positive("solution.norm", solution.norm) / size


def _support(solution: MaxMargin, selected):
    margins = real("solution.margins", solution.margins)
    places = jnp.arange(margins.shape[1])
    return (margins <= 1 + 1e-6) & (places != jnp.asarray(selected)[:, None])


def _pulls(values, selected):
    """Loss weights, of 1 for selected tokens so that logarithms stay finite."""
    w = loss_weights(values, selected)
    own = jnp.arange(w.shape[1]) == jnp.asarray(selected)[:, None]
    w = jnp.where(own, 1.0, w)
    return require("values", w, w > 0, "must be largest for the selected tokens, with a positive advantage, ")


def _token_table(name, value):
    table = real(name, value)
    if table.ndim != 2 or table.shape[1] < 2:
        raise ValueError(f"{name} must be a table of samples and two tokens or more, got shape {table.shape}")
    return table
