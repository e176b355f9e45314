"""Tangent kernels of linear networks, textbook forms: products of gradients, summed over the weights."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

x, y = sp.symbols("x y", positive=True)
w1, w2, w3 = sp.symbols("w_1 w_2 w_3", real=True)
v11, v12, v21, v22 = _v = sp.symbols("v_11 v_12 v_21 v_22", real=True)
u1, u2 = _u = sp.symbols("u_1 u_2", real=True)


def _kernel(output, weights, first, second):
    """sum over weights of d output(first) d output(second)."""
    return sum(sp.diff(output, w).subs(x, first) * sp.diff(output, w).subs(x, second) for w in weights)


_deep = w3 * w2 * w1 * x
_three = x * y * ((w3 * w2) ** 2 + (w3 * w1) ** 2 + (w2 * w1) ** 2)
_WEIGHT = Interval(0.1, 2)

three_layers = Formula(
    title="Tangent kernel of a chain of three layers between two inputs",
    backs="theory.deep_linear.tangent_kernel.tangent_kernel",
    symbol=sp.Symbol("K"),
    arguments=(w1, w2, w3, x, y),
    domain={w: _WEIGHT for w in (w1, w2, w3, x, y)},
    expression=_three,
    proofs={"K = sum of products of gradients": _kernel(_deep, (w1, w2, w3), x, y) - _three},
    call=lambda a, b, c, x, y: ([np.full((1, 1), w) for w in (a, b, c)], np.full((1, 1), x), np.full((1, 1), y)),
    read=lambda kernel: kernel[0, 0],
    source="Jacot, Gabriel & Hongler 2018 (arXiv:1806.07572), definition of the neural tangent kernel",
)

# Two hidden units, one input of size x, outputs u and v: the kernel between them is the off-diagonal block.
_below = sp.Matrix(_u)
_above = sp.Matrix(2, 2, _v)
_outputs = _above * _below * x
_between = sum(sp.diff(_outputs[0], w) * sp.diff(_outputs[1], w) for w in (*_u, *_v))
_same = sum(sp.diff(_outputs[0], w) ** 2 for w in (*_u, *_v))
_gram = _above * _above.T

two_layers = Formula(
    title="Tangent kernel of a two-layer network with two outputs",
    backs="theory.deep_linear.tangent_kernel.two_layer_kernel",
    symbol=sp.Symbol("K"),
    arguments=(*_u, *_v, x),
    domain={w: _WEIGHT for w in (*_u, *_v, x)},
    expression=x**2 * ((_below.T * _below)[0] + _gram[0, 0] + _gram[0, 1]),
    proofs={
        "K_11 = x^2 (A + B_11)": _same - x**2 * ((_below.T * _below)[0] + _gram[0, 0]),
        "K_12 = x^2 B_12": _between - x**2 * _gram[0, 1],
    },
    call=lambda a, b, c, d, e, f, x: (
        (np.zeros((2, 1)), np.full((1, 1), a * a + b * b), np.array([[c, d], [e, f]]) @ np.array([[c, e], [d, f]])),
        np.full((1, 1), x),
    ),
    read=lambda kernel: kernel[0, 0] + kernel[0, 1],
    source="Braun, Dominé, Fitzgerald & Saxe 2022, the neural tangent kernel of a two-layer network",
)

# A = W1^T W1 is diag(a, b) of two inputs, B = W2 W2^T the number g of one output: K = A + g I.
a, b, g, a2, b2, g2 = _six = sp.symbols("a b g a_2 b_2 g_2", positive=True)
_first, _second = sp.diag(a + g, b + g), sp.diag(a2 + g2, b2 + g2)
_product = (_first * _second).trace()
_formula = a * a2 + b * b2 + (a + b) * g2 + (a2 + b2) * g + 2 * g * g2
_length = sp.sqrt((_first**2).trace() * (_second**2).trace())

movement = Formula(
    title="How far the tangent kernel of one output has turned",
    backs="theory.deep_linear.tangent_kernel.kernel_movement",
    symbol=sp.Symbol("S"),
    arguments=_six,
    domain={w: Interval(0.1, 1) for w in (a, b, g)} | {a2: Interval(2, 3), b2: Interval(0.1, 0.15), g2: _WEIGHT},
    expression=1 - _product / _length,
    proofs={"<K, K'> from A and B": sp.expand(_product - _formula)},
    call=lambda a, b, g, a2, b2, g2: tuple(
        (np.zeros((1, 2)), np.diag([p, q]), np.full((1, 1), r)) for p, q, r in ((a, b, g), (a2, b2, g2))
    ),
    read=lambda s: s,
    source="Fort et al. 2020 (arXiv:2010.15110), kernel distance",
)
