"""Width exponents by counting powers of n: a product adds exponents, a sum of terms takes the largest term.

Orders are written as X ~ n^{-x}, so that the largest term of a sum has the least x. Two rules of summation over n
entries do the rest: independent terms gain n^{1/2}, aligned ones gain n.
"""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

HALF = sp.Rational(1, 2)
n = sp.Symbol("n", positive=True)
a1, a2, a3, b1, b2, b3, c1, c2, c3 = ABC = sp.symbols("a_1:4 b_1:4 c_1:4", real=True)
EXPONENTS = {symbol: Interval(-2, 2) for symbol in ABC}
# Exponents pass through zero, where a relative comparison means nothing.
OFF_ZERO = 10

# How large the weights start, W^l ~ n^{-S}, and how far a gradient of order one moves them, n^{-U}.
S = sp.Matrix([a1 + b1, a2 + b2, a3 + b3])
U = sp.Matrix([2 * a1 + c1, 2 * a2 + c2, 2 * a3 + c3])
V = sp.Matrix([a1 + c1, a2 + c2, a3 + c3])
s3, u1, u2, u3 = sp.symbols("S_3 U_1 U_2 U_3", real=True)


def independent(*orders):
    """Order of a sum of n independent products."""
    return sum(orders) - HALF


def aligned(*orders):
    """Order of a sum of n products that share their sign."""
    return sum(orders) - 1


def total(*orders):
    """Order of a sum of few terms."""
    return sp.Min(*orders)


def vanishes(difference):
    """`difference` with Min(x, y) = (x + y - |x - y|) / 2, which SymPy can simplify."""
    return sp.simplify(difference.rewrite(sp.Abs))


def as_scaling(*numbers):
    return (tuple(np.reshape(numbers, (3, 3))),)


def _orders(readout_gradient, updates):
    """Orders of the changes of h^1, h^2 = x^2 and f of a network whose start is stable, S_1 = 0 and S_2 = 1/2.

    `updates(layer, gradient)` is the order of the change of one entry of W^l.
    """
    x = (0, 0, independent(HALF, 0))
    # Backward through W^2, which has independent entries.
    gradient = (independent(HALF, readout_gradient), readout_gradient, 0)
    moved = [updates(layer, gradient[layer] + x[layer]) for layer in range(3)]
    h1 = moved[0]
    h2 = total(independent(HALF, h1), aligned(moved[1], x[1]))
    f = total(aligned(moved[2], x[2]), aligned(s3, h2))
    return h1, h2, f


def _sgd(readout_gradient):
    return _orders(readout_gradient, lambda layer, gradient: (u1, u2, u3)[layer] + gradient)


def _adam():
    """Each entry moves by the learning rate, whatever its gradient."""
    return _orders(s3, lambda layer, _: (u1, u2, u3)[layer])


def _of_weights(expression, moves):
    return expression.subs(dict(zip((s3, u1, u2, u3), (S[2], *moves), strict=True)), simultaneous=True)


_r = total(s3, u3) - 1 + total(u1 + 1, u2)


def _gauge():
    """r after (a, b, c) -> (a + t, b - t, c - 2 t) of every layer."""
    t = sp.symbols("t_1:4", real=True)
    shifts = (*t, *(-shift for shift in t), *(-2 * shift for shift in t))
    r = _of_weights(_r, U)
    return r.subs({x: x + shift for x, shift in zip(ABC, shifts, strict=True)}, simultaneous=True) - r


feature_exponent = Formula(
    title="Feature-learning exponent of a network of two hidden layers",
    backs="theory.kernels.scalings.feature_exponent",
    symbol=sp.Symbol("r"),
    arguments=ABC,
    domain=EXPONENTS,
    expression=_of_weights(_r, U) + OFF_ZERO,
    proofs={
        # After the first step the readout holds what it started with and what it learned, U_3.
        "the order of the change of x^2": lambda: vanishes(_sgd(total(s3, u3))[1] - _r),
        "unchanged under a change of gauge": _gauge,
    },
    call=as_scaling,
    read=lambda r: r + OFF_ZERO,
    source="Yang & Hu 2021 (arXiv:2011.14522), section 3",
)

feature_exponent_adam = Formula(
    title="Feature-learning exponent under Adam, two hidden layers",
    backs="theory.kernels.scalings.feature_exponent",
    symbol=sp.Symbol("r"),
    arguments=ABC,
    domain=EXPONENTS,
    expression=_of_weights(total(u1, u2 - 1), V) + OFF_ZERO,
    proofs={"the order of the change of x^2": vanishes(_adam()[1] - total(u1, u2 - 1))},
    call=as_scaling,
    keywords={"optimiser": "adam"},
    read=lambda r: r + OFF_ZERO,
    source="Yang et al. 2022 (arXiv:2203.03466), section on Adam; orders counted here",
)

_first = s3 - 1 + total(u1 + 1, u2)
_output = total(u3, s3 + _first) - 1


def _exact_exponent(scales, moves):
    """Exponent of the mean tangent kernel of a linear network: how the first step changes f, without counting.

    Theta = sum_l n^{-U_l} |df/dW^l|^2 for f = W^3 W^2 W^1 x with |x| = 1 and E (W^l_ij)^2 = n^{-2 S_l}.
    """
    start = [n ** (-2 * s) for s in scales]
    h1 = n * start[0]  # E |W^1 x|^2
    h2 = n * start[1] * h1  # E |W^2 h^1|^2
    g2 = n * start[2]  # E |W^3|^2
    g1 = n * start[1] * g2  # E |W^3 W^2|^2
    kernel = n ** -moves[0] * g1 + n ** -moves[1] * g2 * h1 + n ** -moves[2] * h2
    return sp.limit(sp.log(sp.expand(kernel)) / sp.log(n), n, sp.oo)


def _named(scales, moves):
    numbers = dict(zip((s3, u1, u2, u3), (scales[2], *moves), strict=True))
    return _exact_exponent(scales, moves) + _output.subs(numbers)


output_change = Formula(
    title="Exponent of the change of the output by the first step",
    backs="theory.kernels.scalings.growth",
    symbol=sp.Symbol("e_f"),
    arguments=ABC,
    domain=EXPONENTS,
    expression=OFF_ZERO - _of_weights(_output, U),
    proofs={
        "by counting": lambda: vanishes(_sgd(s3)[2] - _output),
        "standard, constant rate: exactly": lambda: _named((0, HALF, HALF), (0, 0, 0)),
        "standard, rate 1/n: exactly": lambda: _named((0, HALF, HALF), (1, 1, 1)),
        "NTK: exactly": lambda: _named((0, HALF, HALF), (0, 1, 1)),
        "maximal update: exactly": lambda: _named((0, HALF, 1), (-1, 0, 1)),
    },
    call=as_scaling,
    keywords={"first_step": True},
    read=lambda growth: growth.output_change + OFF_ZERO,
    source="Yang & Hu 2021 (arXiv:2011.14522), section 3",
)

s = sp.Symbol("s", real=True)
_q = total(u1 + 1, u2)
_least = sp.Max(0, 1 - s3)
# What the stability conditions keep above zero once all rates carry n^{-s}: each grows with s.
_PIECES = (u3 + s - 1, s3 + _q - 1 + s - _least, u3 + _q - 1 + 2 * s - _least)
_ROOTS = (1 - u3, _least + 1 - s3 - _q, (_least + 1 - u3 - _q) / 2)


def _roots():
    """The shifts at which the conditions are just met."""
    return sp.Matrix([piece.subs(s, root) for piece, root in zip(_PIECES, _ROOTS, strict=True)])


def _conditions():
    """r >= 0 and S_3 + r >= 1 are r >= max(0, 1 - S_3); r(s) less that is the smaller of the last two pieces."""
    q, least = sp.symbols("q rho", real=True)
    r = total(s3, u3 + s) - 1 + q + s
    pieces = [p.subs({_q: q, _least: least}) for p in _PIECES[1:]]
    return vanishes(r - least - total(*pieces))


rate_exponent = Formula(
    title="Exponent of the largest stable learning rate",
    backs="theory.kernels.scalings.rate_exponent",
    symbol=s,
    arguments=ABC,
    domain=EXPONENTS,
    expression=_of_weights(sp.Max(*_ROOTS), U) + OFF_ZERO,
    proofs={"each condition is met from its root on": _roots, "these are the conditions": _conditions},
    call=as_scaling,
    read=lambda shift: shift + OFF_ZERO,
    source="stability conditions of Yang & Hu 2021 (arXiv:2011.14522), section 3, solved for c",
)


def _maximal():
    """(U_1, U_2, U_3) that meet r = max(0, 1 - S_3) in both hidden layers and move f by order one."""
    m = total(s3, 1)
    hidden, readout = sp.solve([m - 1 + u1 + 1 - _least, m - 1 + u2 - _least], (u1, u2)), 1
    return hidden[u1], hidden[u2], readout


layer_rates = Formula(
    title="Largest stable learning rate of a hidden layer",
    backs="theory.kernels.scalings.layer_rates",
    symbol=sp.Symbol("c_2"),
    arguments=ABC,
    domain=EXPONENTS,
    expression=_of_weights(_least - total(s3, 1) + 1, U) - 2 * a2 + OFF_ZERO,
    proofs={
        "h^2 moves as stability allows": lambda: vanishes(_maximal()[1] - (_least - total(s3, 1) + 1)),
        "maximal update at S_3 = 1": lambda: sp.Matrix(_maximal()).subs(s3, 1) - sp.Matrix([-1, 0, 1]),
        "NTK at S_3 = 1/2": lambda: sp.Matrix(_maximal()).subs(s3, HALF) - sp.Matrix([0, 1, 1]),
    },
    call=as_scaling,
    read=lambda rates: rates[1] + OFF_ZERO,
    source="Yang & Hu 2021 (arXiv:2011.14522), section 5; Yang et al. 2022 (arXiv:2203.03466), table 3",
)
