"""Mean field of a deep linear network after two steps, from the words that its random matrix can spell."""

from functools import cache

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

y, gamma, lr, k = sp.symbols("y gamma eta k", real=True)


def inner(first, second, layer):
    """Inner product over N of two vectors at infinite width, with W an N x N matrix of entries N(0, 1/N).

    A vector of layer 1 is a combination of (W^T W)^j w and (W^T W)^j W^T a, one of layer 2 of (W W^T)^j W w and
    (W W^T)^j a; w and a are standard normal and independent, and tr (W^T W)^j / N is a Catalan number.
    """
    further = {("w", 1): 0, ("a", 1): 1, ("w", 2): 1, ("a", 2): 0}
    return sum(
        p * q * sp.catalan(i + j + further[kind, layer])
        for (kind, i), p in first.items()
        for (other, j), q in second.items()
        if kind == other
    )


def plus(*terms):
    """A combination of vectors, (factor, vector) each."""
    total = {}
    for factor, vector in terms:
        for word, c in vector.items():
            total[word] = sp.expand(total.get(word, 0) + factor * c)
    return total


def up(vector):
    """W v of a vector of layer 1."""
    return {(kind, j + (kind == "a")): c for (kind, j), c in vector.items()}


def down(vector):
    """W^T v of a vector of layer 2."""
    return {(kind, j + (kind == "w")): c for (kind, j), c in vector.items()}


@cache
def network(steps):
    """Output and last hidden kernel of the explicit network after gradient descent on one sample, |x|^2 / d = k."""
    x = sp.sqrt(k)
    w, a, moves = {("w", 0): sp.Integer(1)}, {("a", 0): sp.Integer(1)}, []
    for step in range(steps + 1):
        h1 = plus((x, w))
        h2 = plus((1, up(h1)), *((c * inner(v, h1, 1), u) for c, u, v in moves))
        f = sp.expand(inner(a, h2, 2) / gamma)
        if step == steps:
            return f, sp.expand(inner(h2, h2, 2))
        size = lr * gamma * (y - f)
        signal = plus((1, down(a)), *((c * inner(u, a, 2), v) for c, u, v in moves))
        moves = [*moves, (size, a, h1)]
        a, w = plus((1, a), (size, h2)), plus((1, w), (size * x, signal))
    raise AssertionError


@cache
def mean_field(steps):
    """The same from the self-consistent equations, iterated until they stand: matrices in time are nilpotent."""
    t = steps + 1
    ones, zero = sp.ones(t, t), sp.zeros(t, t)
    h, g, a, b, errors = [k * ones] * 3, [ones] * 4, [zero] * 4, [zero] * 4, [sp.Integer(0)] * t

    def early(matrix):
        return sp.Matrix(t, t, lambda i, j: sp.expand(matrix[i, j]) if j < i else 0)

    def inverse(matrix):
        total, power = sp.eye(t), sp.eye(t)
        for _ in range(t):
            power = (power * matrix).expand()
            total += power
        return total

    def coupling(layer):
        return early(a[layer] + lr * h[layer] * sp.diag(*errors))

    # Each round gets one more row of every layer right.
    for _ in range(2 * t + 2):
        for layer in (1, 2):
            c = coupling(layer - 1)
            d = early(b[layer + 1] + lr * g[layer + 1] * sp.diag(*errors))
            around, back = inverse(gamma**2 * c * d), inverse(gamma**2 * d * c)
            h[layer] = (around * (h[layer - 1] + gamma**2 * c * g[layer + 1] * c.T) * around.T).expand()
            g[layer] = (back * (g[layer + 1] + gamma**2 * d * h[layer - 1] * d.T) * back.T).expand()
            a[layer], b[layer] = (around * c).expand(), (back * d).expand()
        outputs = [sp.expand(sum(coupling(2)[i, :])) for i in range(t)]
        errors = [y - f for f in outputs]
    return outputs[-1], h[2][t - 1, t - 1]


SIZES = {y: Interval(-2, 2), gamma: Interval(0, 2), lr: Interval(0.01, 0.2), k: Interval(0.3, 1.5)}


def _call(steps):
    return lambda y, gamma, lr, k: (steps, np.sqrt(np.array([[k]])), np.array([y]), gamma, lr, 2)


two_steps = Formula(
    title="Output of a two-hidden-layer linear network of infinite width after two steps",
    backs="theory.lazy_rich.mean_field_linear.linear_mean_field",
    symbol=sp.Symbol("f_2"),
    arguments=(y, gamma, lr, k),
    domain=SIZES,
    # Away from the zero at y = 0.
    expression=network(2)[0] + 10,
    proofs={
        "the self-consistent equations give the same": lambda: sp.expand(mean_field(2)[0] - network(2)[0]),
        "without richness it is the kernel machine of 3 k": lambda: sp.expand(
            network(2)[0].subs(gamma, 0) - y * (1 - (1 - 3 * lr * k) ** 2)
        ),
    },
    call=_call(2),
    read=lambda field: field.outputs[-1, 0] + 10,
    source="Bordelon & Pehlevan 2022 (arXiv:2205.09653), in discrete time",
)

two_step_features = Formula(
    title="Last hidden kernel of that network after two steps",
    backs="theory.lazy_rich.mean_field_linear.linear_mean_field",
    symbol=sp.Symbol("H_2"),
    arguments=(y, gamma, lr, k),
    domain=SIZES,
    expression=network(2)[1],
    proofs={"the self-consistent equations give the same": lambda: sp.expand(mean_field(2)[1] - network(2)[1])},
    call=_call(2),
    read=lambda field: field.features[-1, -1, 0, -1, 0],
    source="Bordelon & Pehlevan 2022 (arXiv:2205.09653), in discrete time",
)
