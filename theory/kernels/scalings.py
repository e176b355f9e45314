"""Width scalings (abc parametrisations): what a network of width n does as n grows (Yang & Hu 2021).

A network of L hidden layers of width n has the weights W^l = n^{-a_l} w^l, l = 1 ... L+1, of which w^l is trained,
from w^l_ij ~ N(0, n^{-2 b_l}), at the learning rate lr n^{-c_l}. To leading order every quantity is a power of n,
and the powers follow from two rules: a sum of n independent terms grows as n^{1/2}, one of n aligned terms as n.
Only two numbers of each layer matter: how large its weights start, n^{-(a+b)}, and how far they move:
n^{-(2a+c)} times a gradient under SGD, n^{-(a+c)} under Adam, whose steps do not feel the gradient's size.

All functions take a `Scaling` (or any triple of vectors a, b, c) with the layers in order, the readout last.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from theory.checks import positive, real, whole

# Exponents are fractions of small integers; sums of a few of them are exact to much better than this.
EQUAL = 1e-9


class Scaling(NamedTuple):
    """Exponents of the width n, each of shape (L+1,): multipliers n^{-a}, deviations n^{-b}, learning rates n^{-c}."""

    a: Float[Array, " layers"]
    b: Float[Array, " layers"]
    c: Float[Array, " layers"]


# Any triple of vectors may stand for a scaling.
Exponents = Scaling | tuple[Real[ArrayLike, " layers"], Real[ArrayLike, " layers"], Real[ArrayLike, " layers"]]


class Growth(NamedTuple):
    """Exponents e of "~ n^e" for a network's start and for what training changes.

    `output_start`    of f at the start.
    `output_change`   of the change of f.
    `feature_change`  of the change of each entry of x^L, the last hidden activations: -r.
    `layer_change`    of the change of the pre-activations h^1 ... h^L, shape (L,).
    """

    output_start: Float[Array, ""]
    output_change: Float[Array, ""]
    feature_change: Float[Array, ""]
    layer_change: Float[Array, " L"]


class Layers(NamedTuple):
    """A network at one width, each of shape (L+1,): W^l = multiplier w^l, w^l ~ N(0, variance), its learning rate."""

    multipliers: Float[Array, " layers"]
    variances: Float[Array, " layers"]
    learning_rates: Float[Array, " layers"]


def standard(depth: int, rate: Real[ArrayLike, ""] = 0.0) -> Scaling:
    """Standard parametrisation: W^l = w^l of variance 1/fan-in, one learning rate n^{-rate} for all layers.

    a = 0,   b = (0, 1/2, ..., 1/2),   c = rate.

    Arguments:
        depth: number L of hidden layers, a Python int >= 1.
        rate: 0 for a learning rate that does not change with width (unstable), 1 for one of 1/n (kernel regime).
    Returns:
        the `Scaling`, of L + 1 layers.
    Source: Yang & Hu 2021 (arXiv:2011.14522), table 1.
    """
    zero, above = jnp.zeros(whole("depth", depth) + 1), _above_input(depth)
    return Scaling(zero, above / 2, zero + real("rate", rate))


def ntk(depth: int) -> Scaling:
    """NTK parametrisation: a = (0, 1/2, ..., 1/2), b = c = 0.

    Arguments:
        depth: number L of hidden layers, a Python int >= 1.
    Returns:
        the `Scaling`; it is in the kernel regime, r = 1/2.
    Source: Jacot, Gabriel & Hongler 2018 (arXiv:1806.07572); Yang & Hu 2021 (arXiv:2011.14522), table 1.
    """
    zero = jnp.zeros(whole("depth", depth) + 1)
    return Scaling(_above_input(depth) / 2, zero, zero)


def mean_field(depth: int) -> Scaling:
    """Mean-field parametrisation: a = (0, 1/2, ..., 1/2, 1), b = 0, c = -1.

    The NTK parametrisation with a readout of 1/n in place of 1/sqrt(n) and a learning rate of n. With one hidden
    layer a = (0, 1). At any depth a gauge change of `maximal_update`.

    Arguments:
        depth: number L of hidden layers, a Python int >= 1.
    Returns:
        the `Scaling`; it learns features, r = 0.
    Source: Mei, Montanari & Nguyen 2018 (arXiv:1804.06561) at one hidden layer; Bordelon & Pehlevan 2022
        (arXiv:2205.09653), section 2, at any depth.
    """
    kernel = ntk(depth)
    return Scaling(kernel.a.at[-1].set(1.0), kernel.b, kernel.c - 1)


def maximal_update(depth: int) -> Scaling:
    """Maximal-update parametrisation (muP) for SGD: a = (-1/2, 0, ..., 0, 1/2), b = 1/2, c = 0.

    Arguments:
        depth: number L of hidden layers, a Python int >= 1.
    Returns:
        the `Scaling`; it learns features, r = 0, and no layer's learning rate can be larger. Adam's is
        `scaling._replace(c=layer_rates(scaling, "adam"))`.
    Source: Yang & Hu 2021 (arXiv:2011.14522), section 5.
    """
    a = (jnp.zeros(whole("depth", depth) + 1)).at[0].set(-0.5).at[-1].set(0.5)
    return Scaling(a, jnp.full_like(a, 0.5), jnp.zeros_like(a))


def gauge_changed(scaling: Exponents, shift: Real[ArrayLike, "*layers"], optimiser: str = "sgd") -> Scaling:
    """The same trained function in another parametrisation: (a + shift, b - shift, c - 2 shift).

    Arguments:
        scaling: exponents.
        shift: per layer, shape (L+1,) or a scalar; -a gives the form without multipliers.
        optimiser: "sgd"; for "adam" the rates change by -shift, and its epsilon with the gradient, by n^{-shift}.
    Returns:
        the `Scaling` whose networks, at every width and step, compute the same function.
    Source: Yang & Hu 2021 (arXiv:2011.14522), section 3 (SGD); Yang et al. 2022 (arXiv:2203.03466).
    """
    a, b, c = _exponents(scaling)
    shift = jnp.broadcast_to(real("shift", shift), a.shape)
    return Scaling(a + shift, b - shift, c - _power(optimiser) * shift)


def feature_exponent(scaling: Exponents, optimiser: str = "sgd", first_step: bool = False) -> Float[Array, ""]:
    """The exponent r of feature learning: training moves each last hidden activation by n^{-r}.

    SGD:   r = min(a_{L+1} + b_{L+1}, 2 a_{L+1} + c_{L+1}) - 1 + min(2 a_1 + c_1 + 1, min_{1<l<=L} 2 a_l + c_l),
    Adam:  r = min(a_1 + c_1, min_{1<l<=L} a_l + c_l - 1).

    Arguments:
        scaling: exponents of L + 1 layers.
        optimiser: "sgd" or "adam" (any optimiser whose steps have the size of the learning rate).
        first_step: the change by the first step, whose gradient has seen only the readout's start: SGD's first
            minimum is then a_{L+1} + b_{L+1}.
    Returns:
        r, a scalar.
    Holds when: the start is stable (a_1 + b_1 = 0, a_l + b_l = 1/2) and outputs stay of order one.
    Source: Yang & Hu 2021 (arXiv:2011.14522), section 3 (definition of r).
    """
    return jnp.min(_layer_moves(scaling, optimiser, first_step)[:-1])


def growth(scaling: Exponents, optimiser: str = "sgd", first_step: bool = False) -> Growth:
    """With which powers of the width the outputs and features start and change.

    f(0) ~ n^{1/2 - a - b},   change of f ~ n^{1 - min(u, a + b + r)},   of x^L ~ n^{-r},   with a, b and the move u
    (2a + c under SGD, a + c under Adam) those of the readout; h^l moves as the largest move of layers 1 ... l.

    Arguments: as for `feature_exponent`.
    Returns:
        the `Growth`.
    Holds when: as for `feature_exponent`; the exponents are approached with relative corrections of order 1/n
        in mean squares. A target or a nonlinearity that makes a leading term vanish lowers its exponent.
    Source: Yang & Hu 2021 (arXiv:2011.14522), section 3 and its proofs.
    """
    start, moves = _starts(scaling), _layer_moves(scaling, optimiser, first_step)
    r = jnp.min(moves[:-1])
    through_features = start[-1] + r - 1
    below = jnp.stack([jnp.min(moves[:layer]) for layer in range(1, len(moves))])
    # Subtracted from zero, which unlike a sign gives no -0.
    return Growth(0.5 - start[-1], 0 - jnp.minimum(moves[-1], through_features), 0 - r, 0 - below)


def violations(scaling: Exponents, optimiser: str = "sgd") -> dict[str, str]:
    """The stability conditions that a scaling violates, each with a sentence of what then goes wrong.

    input start:      a_1 + b_1 = 0               hidden start:     a_l + b_l = 1/2  (1 < l <= L)
    output start:     a_{L+1} + b_{L+1} >= 1/2    features:         r >= 0
    readout update:   2 a_{L+1} + c_{L+1} >= 1    feature update:   a_{L+1} + b_{L+1} + r >= 1
    (for Adam the readout update needs a_{L+1} + c_{L+1} >= 1).

    Arguments: as for `feature_exponent`; concrete numbers.
    Returns:
        name -> sentence, in the order above; empty if and only if the scaling is stable.
    Source: Yang & Hu 2021 (arXiv:2011.14522), section 3 (stability).
    """
    start, moves = _starts(scaling), _layer_moves(scaling, optimiser, False)
    r = float(jnp.min(moves[:-1]))
    hidden = float(jnp.max(jnp.abs(start[1:-1] - 0.5), initial=0.0))
    first, last, readout = float(start[0]), float(start[-1]), float(moves[-1])
    conditions = {
        "input start": (-abs(first), f"a_1 + b_1 must be 0, got {first:g}: h^1 starts as n^{-first:g}"),
        "hidden start": (-hidden, f"a_l + b_l must be 1/2, it is off by {hidden:g}: h^l grows or vanishes with n"),
        "output start": (last - 0.5, f"a_L+1 + b_L+1 must be at least 1/2, got {last:g}: f starts as n^{0.5 - last:g}"),
        "features": (r, f"r must be at least 0, got {r:g}: hidden activations move as n^{-r:g}"),
        "readout update": (readout, f"the readout moves too far: its steps change f as n^{-readout:g}"),
        "feature update": (last + r - 1, f"features move too far: they change f as n^{1 - last - r:g}"),
    }
    return {name: sentence for name, (margin, sentence) in conditions.items() if margin < -EQUAL}


def regime(scaling: Exponents, optimiser: str = "sgd") -> str:
    """What becomes of training at infinite width: "unstable", "trivial", "kernel" or "feature learning".

    Arguments: as for `feature_exponent`; concrete numbers.
    Returns:
        "unstable" if `violations` has any; else "trivial" if f does not move, min(u, a + b + r) > 1 (see `growth`);
        else "feature learning" if r = 0 and "kernel" if r > 0: a stable scaling never learns both ways.
    Source: Yang & Hu 2021 (arXiv:2011.14522), section 3 (dynamical dichotomy).
    """
    if violations(scaling, optimiser):
        return "unstable"
    moved = growth(scaling, optimiser)
    if moved.output_change < -EQUAL:
        return "trivial"
    return "kernel" if moved.feature_change < -EQUAL else "feature learning"


def rate_exponent(scaling: Exponents, optimiser: str = "sgd") -> Float[Array, ""]:
    """The exponent by which all learning rates must shrink to be just stable: rates n^{-(c + shift)}.

    With S = a_{L+1} + b_{L+1}, rho = max(0, 1 - S), u the moves per layer (2a + c or a + c), q = min(u_1 + 1, u_l):
    SGD:   shift = max(1 - u_{L+1},  rho + 1 - S - q,  (rho + 1 - u_{L+1} - q) / 2),
    Adam:  shift = max(1 - u_{L+1},  rho + 1 - q).

    Arguments: as for `feature_exponent`.
    Returns:
        the shift; negative where the rates may grow. `scaling._replace(c=c + shift)` is stable, less is not.
    Holds when: the start is stable. This is how the largest stable learning rate, and with it the best one,
        changes with width: not at all where the shift is 0 (learning-rate transfer).
    Source: the stability conditions of Yang & Hu 2021 (arXiv:2011.14522), section 3, solved for c; Yang et al. 2022
        (arXiv:2203.03466).
    """
    readout, moves = _starts(scaling)[-1], _moves(scaling, optimiser)
    last, hidden = moves[-1], jnp.min(moves[:-1].at[0].add(1.0))
    least = jnp.maximum(0.0, 1 - readout)
    if optimiser == "adam":
        return jnp.maximum(1 - last, least + 1 - hidden)
    by_features = jnp.maximum(least + 1 - readout - hidden, (least + 1 - last - hidden) / 2)
    return jnp.maximum(1 - last, by_features)


def layer_rates(scaling: Exponents, optimiser: str = "sgd") -> Float[Array, " layers"]:
    """The learning-rate exponents c_l at which every layer by itself moves as far as stability allows.

    With S = a_{L+1} + b_{L+1}, m = min(S, 1) and r = max(0, 1 - S), which is then the feature exponent:
    SGD:   2a + c = (r - m, r - m + 1, ..., r - m + 1, 1),
    Adam:  a + c = (r, r + 1, ..., r + 1, 1).

    Arguments: as for `feature_exponent`; the given c is not used.
    Returns:
        c, shape (L+1,). At S = 1 these are muP's, at S = 1/2 those of the NTK parametrisation, up to gauge.
    Holds when: the start is stable.
    Source: the maximality of Yang & Hu 2021 (arXiv:2011.14522), section 5, for any readout; at S = 1 and a = 0
        Yang et al. 2022 (arXiv:2203.03466), table 3.
    """
    readout, a = _starts(scaling)[-1], _exponents(scaling).a
    r = jnp.maximum(0.0, 1 - readout)
    first = r if optimiser == "adam" else r - jnp.minimum(readout, 1.0)
    moves = (first + _above_input(len(a) - 1)).at[-1].set(1.0)
    return moves - _power(optimiser) * a


def layers(
    scaling: Exponents,
    width: int,
    *,
    inputs: int,
    base_width: int = 1,
    gain: Real[ArrayLike, "*layers"] = 1.0,
    learning_rate: Real[ArrayLike, "*layers"] = 1.0,
) -> Layers:
    """Multipliers, initial variances and learning rates of every layer of a network of a given width.

    multiplier = (n/n_0)^{-a},   variance = (gain / fan-in at n_0) (n/n_0)^{-2b},   rate = lr (n/n_0)^{-c}.

    Arguments:
        scaling: exponents, of the optimiser that will train the network.
        width: n, a Python int >= 1.
        inputs: input dimension d, the fan-in of the first layer; n_0 is that of the others.
        base_width: n_0, at which every scaling is the same network, without multipliers: tune the rest there.
        gain: variance of a layer's weights times its fan-in at the base width (2 for ReLU), > 0, scalar or (L+1,).
        learning_rate: lr, per layer or one for all, > 0.
    Returns:
        the `Layers`. Adam's epsilon must be small against gradients of order n^{-a} times those of W.
    Source: Yang et al. 2022 (arXiv:2203.03466), tables 3 and 8, relative to a base width.
    """
    a, b, c = _exponents(scaling)
    base_width = whole("base_width", base_width)
    ratio = whole("width", width) / base_width
    fan_in = jnp.full(a.shape, float(base_width)).at[0].set(whole("inputs", inputs))
    variance = positive("gain", gain) / fan_in * ratio ** (-2 * b)
    return Layers(ratio**-a, variance, positive("learning_rate", learning_rate) * ratio**-c)


def _layer_moves(scaling: Exponents, optimiser: str, first_step: bool) -> Float[Array, " layers"]:
    """Exponents d: a layer's own change of weights moves its output, h^l or f, by n^{-d_l}."""
    moves = _moves(scaling, optimiser)
    # A change of weights is aligned with what it acts on: a sum over the n entries of x, or over d for the inputs.
    moves = moves - _above_input(len(moves) - 1)
    if optimiser == "adam":
        return moves
    # The gradient with respect to hidden layers is as large as the readout weights, started or learned.
    start = _starts(scaling)[-1]
    backward = start if first_step else jnp.minimum(start, moves[-1] + 1)
    return moves.at[:-1].add(backward)


def _moves(scaling: Exponents, optimiser: str) -> Float[Array, " layers"]:
    """2a + c under SGD (the gradient, too, carries the multiplier), a + c under Adam."""
    a, _, c = _exponents(scaling)
    return _power(optimiser) * a + c


def _starts(scaling: Exponents) -> Float[Array, " layers"]:
    a, b, _ = _exponents(scaling)
    return a + b


def _power(optimiser: str) -> int:
    if optimiser not in ("sgd", "adam"):
        raise ValueError(f"optimiser must be 'sgd' or 'adam', got {optimiser!r}")
    return 2 if optimiser == "sgd" else 1


def _above_input(depth: int) -> Float[Array, " layers"]:
    """(0, 1, ..., 1): the layers whose fan-in is the width."""
    return jnp.ones(whole("depth", depth) + 1).at[0].set(0.0)


def _exponents(scaling: Exponents) -> Scaling:
    """The three vectors as arrays of one shape, (L+1,) with L >= 1."""
    a, b, c = (real(name, value) for name, value in zip("abc", scaling, strict=True))
    if a.ndim != 1 or len(a) < 2 or not a.shape == b.shape == c.shape:
        raise ValueError(f"scaling must hold a, b, c of one length of 2 or more, got {a.shape}, {b.shape}, {c.shape}")
    return Scaling(a, b, c)
