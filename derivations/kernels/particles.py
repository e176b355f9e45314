"""Mean-field particles: a training step under Gaussian averages, and how finite samples scatter about the limit."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

gamma, x, lr = sp.symbols("gamma x eta", positive=True)
y, alpha = sp.symbols("y alpha", real=True)
a, w = sp.symbols("a w", real=True)


def average(polynomial, *normals):
    """Mean over independent standard normal variables: E z^k = (k - 1)!! for even k."""
    for z in normals:
        terms = sp.Poly(polynomial, z).terms()
        polynomial = sum(c * sp.factorial2(k - 1) for (k,), c in terms if k % 2 == 0)
    return sp.expand(polynomial)


# One sample in one dimension, phi(h) = h^2, from f = 0: the first step of every neuron.
_h = w * x
_a = a + lr * gamma * y * _h**2
_w = w + lr * gamma * y * a * 2 * _h * x
_quadratic = average(sp.expand(_a * (_w * x) ** 2), a, w) / gamma


def _gradient():
    """The step is that of the loss (y - f)^2 / 2, at the rate gamma^2 N lr, of each of N = 2 neurons at f = 0."""
    weights = sp.symbols("a_1 w_1 a_2 w_2", real=True)
    f = (weights[0] * (weights[1] * x) ** 2 + weights[2] * (weights[3] * x) ** 2) / (2 * gamma)
    centre = sp.Symbol("f_0")
    loss = (y - (f - centre)) ** 2 / 2
    moved = [z - 2 * gamma**2 * lr * sp.diff(loss, z).subs(centre, f) for z in weights[:2]]
    expected = [z.subs({a: weights[0], w: weights[1]}) for z in (_a, _w)]
    return sp.simplify(sp.Matrix(moved) - sp.Matrix(expected))


def square(h):
    """The activation; one function, so that it is compiled once."""
    return h**2


def _as_population(x, y, gamma, lr):
    """Gauss-Hermite nodes of both weights: degree 4 in each is averaged exactly."""
    node, weight = np.polynomial.hermite_e.hermegauss(4)
    inputs, readout = (z.reshape(-1, 1) for z in np.meshgrid(node, node))
    mass = np.outer(weight, weight).ravel() / weight.sum() ** 2
    data = np.array([[x]]), np.array([[y]])
    return (np.zeros((1, 1), int), (inputs, readout, mass), *data, gamma, lr, square)


quadratic_step = Formula(
    title="Output of an infinitely wide quadratic network after one step",
    backs="theory.kernels.particles.mean_field_descent",
    symbol=sp.Symbol("f_1"),
    arguments=(x, y, gamma, lr),
    domain={
        x: Interval(0.3, 2),
        y: Interval(0.3, 2),
        gamma: Interval(1e-2, 3, log=True),
        lr: Interval(1e-2, 0.3, log=True),
    },
    expression=_quadratic,
    proofs={
        "each neuron's gradient": _gradient,
        # E phi(h)^2 + E a^2 phi'(h)^2 x^2 = 3 x^4 + 4 x^4.
        "gamma -> 0 is the tangent kernel": sp.limit(_quadratic, gamma, 0) - 7 * x**4 * lr * y,
    },
    call=_as_population,
    read=lambda course: course.outputs[-1, 0, 0],
    source="Yang & Hu 2021 (arXiv:2011.14522), the one-hidden-layer limit",
)

# F = (mean of u)^2 with u = (z + alpha)^2, over N standard normal z: exactly E F = E[u]^2 + Var u / N.
_u = (w + alpha) ** 2
_mean = average(_u, w)
_variance = sp.expand(average(_u**2, w) - _mean**2)


def _nodes(alpha):
    node, weight = np.polynomial.hermite_e.hermegauss(4)
    return weight / weight.sum(), lambda mass: (mass @ (node + alpha) ** 2) ** 2


def _sample_of(number):
    """E and Var of F over `number` independent z, exactly."""
    z = sp.symbols(f"z_1:{number + 1}", real=True)
    f = sp.expand((sum((i + alpha) ** 2 for i in z) / number) ** 2)
    mean = average(f, *z)
    return mean, sp.expand(average(sp.expand(f**2), *z) - mean**2)


width_variance = Formula(
    title="N times the variance of the square of a mean over N neurons, N -> infinity",
    backs="theory.kernels.particles.width_variance",
    symbol=sp.Symbol("sigma^2"),
    arguments=(alpha,),
    domain={alpha: Interval(-2, 2)},
    expression=4 * _mean**2 * _variance,
    proofs={
        "Var u": _variance - 2 - 4 * alpha**2,
        # N Var F = A + B/N + C/N^2: from N = 1, 2, 4 the constant is A.
        "from samples of 1, 2 and 4": lambda: sp.expand(
            (_sample_of(1)[1] - 12 * _sample_of(2)[1] + 32 * _sample_of(4)[1]) / 3 - 4 * _mean**2 * _variance
        ),
    },
    call=_nodes,
    source="delta method",
)

width_shift = Formula(
    title="N times the shift of the mean of the square of a mean over N neurons",
    backs="theory.kernels.particles.width_shift",
    symbol=sp.Symbol("B"),
    arguments=(alpha,),
    domain={alpha: Interval(-2, 2)},
    expression=_variance,
    proofs={
        f"exactly, at N = {number}": (
            lambda number=number: sp.expand(number * (_sample_of(number)[0] - _mean**2) - _variance)
        )
        for number in (1, 2, 3)
    },
    call=_nodes,
    source="delta method",
)
