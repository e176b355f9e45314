"""Grokking in two-layer polynomial regression: closure of training on two averages, from explicit neurons."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

alpha, epsilon, lr, t, r, v = sp.symbols("alpha epsilon eta t r v", positive=True)
x, y, a0 = sp.symbols("x y a", real=True)
SAMPLES = sp.Matrix(2, 2, sp.symbols("x_11 x_12 x_21 x_22", real=True))
LABELS = sp.Matrix(sp.symbols("y_1 y_2", real=True))
NEURONS = sp.Matrix(2, 2, sp.symbols("w_11 w_12 w_21 w_22", real=True))


def network(neurons, point):
    """(alpha / N) sum_i h_i + (epsilon / 2) h_i^2, a point in a row."""
    h = neurons * point.T
    return alpha * sum(z + epsilon * z**2 / 2 for z in h) / neurons.rows


def averages(neurons):
    """b = alpha <w> and A = alpha epsilon <w w^T>."""
    return alpha * sum(
        (neurons[i, :] for i in range(2)), sp.zeros(1, 2)
    ).T / 2, alpha * epsilon * neurons.T * neurons / 2


def step(b, form, samples, labels, richness, size):
    """One step of the averages, in the form in which it falls out of the neurons."""
    p = samples.rows
    errors = [(samples[i, :] * b)[0] + (samples[i, :] * form * samples[i, :].T)[0] / 2 - labels[i] for i in range(p)]
    force = sum((e * samples[i, :].T for i, e in enumerate(errors)), sp.zeros(b.rows, 1)) / p
    spread = sum((e * samples[i, :].T * samples[i, :] for i, e in enumerate(errors)), sp.zeros(b.rows, b.rows)) / p
    u = sp.eye(b.rows) - size * richness * spread
    cross = (u * b) * force.T
    moved = u * form * u.T - richness * size * (cross + cross.T) + richness * size**2 * force * force.T
    return u * b - size * force, moved


def _from_neurons():
    """The step of the averages is that of gradient descent on the neurons at the rate lr N / alpha^2."""
    errors = [network(NEURONS, SAMPLES[i, :]) - LABELS[i] for i in range(2)]
    # The slope of the loss by the chain rule: e (alpha / N) (1 + epsilon h) x over P.
    slope = sp.Matrix(
        2,
        2,
        lambda i, k: (
            sum(
                errors[m] * alpha / 2 * (1 + epsilon * (NEURONS[i, :] * SAMPLES[m, :].T)[0]) * SAMPLES[m, k]
                for m in range(2)
            )
            / 2
        ),
    )
    loss = sum(e**2 for e in errors) / 4
    chain = sp.expand(slope[0, 1] - sp.diff(loss, NEURONS[0, 1]))
    b, form = averages(NEURONS - lr * 2 / alpha**2 * slope)
    b_step, form_step = step(*averages(NEURONS), SAMPLES, LABELS, epsilon / alpha, lr)
    # Numbers for all but two symbols: a polynomial of this size does not expand in reasonable time.
    numbers = dict(zip([*SAMPLES, *LABELS], (1, -2, sp.Rational(1, 2), 1, 3, -1), strict=True))
    residues = [sp.expand((z).subs(numbers)) for z in (*(b - b_step), *(form - form_step))]
    return sp.Matrix([chain, *residues])


def _congruence():
    """C = A - r b b^T goes to U C U."""
    b, form = (
        sp.Matrix(sp.symbols("b_1 b_2")),
        sp.Matrix([[sp.Symbol("a_11"), sp.Symbol("a_12")], sp.symbols("a_12 a_22")]),
    )
    force, spread = (
        sp.Matrix(sp.symbols("v_1 v_2")),
        sp.Matrix([[sp.Symbol("s_11"), sp.Symbol("s_12")], sp.symbols("s_12 s_22")]),
    )
    u = sp.eye(2) - lr * r * spread
    cross = (u * b) * force.T
    after = u * form * u - r * lr * (cross + cross.T) + r * lr**2 * force * force.T
    moved = u * b - lr * force
    return sp.expand(after - r * moved * moved.T - u * (form - r * b * b.T) * u)


def _flow_of_step():
    """The step's change per unit of time, as lr -> 0, is the flow's."""
    b, form = sp.Matrix([sp.Symbol("b")]), sp.Matrix([[sp.Symbol("A")]])
    sample, label = sp.Matrix([[x]]), sp.Matrix([y])
    b_step, form_step = step(b, form, sample, label, r, lr)
    error = b[0] * x + form[0] * x**2 / 2 - y
    force, spread = error * x, error * x**2
    rates = [
        sp.limit(sp.expand((after - before) / lr), lr, 0)
        for after, before in ((b_step[0], b[0]), (form_step[0], form[0]))
    ]
    rest_rate = -2 * r * spread * (form[0] - r * b[0] ** 2)
    b_rate = -force - r * spread * b[0]
    return sp.expand(sp.Matrix([rates[0] - b_rate, rates[1] - rest_rate - 2 * r * b[0] * b_rate]))


_start = (sp.Matrix([0]), sp.Matrix([[a0]]))
_twice = step(*step(*_start, sp.Matrix([[x]]), sp.Matrix([y]), r, lr), sp.Matrix([[x]]), sp.Matrix([y]), r, lr)
SIZES = {x: Interval(0.3, 1.5), y: Interval(-1.5, 1.5), r: Interval(1e-3, 1, log=True), a0: Interval(0.01, 1)}

descended_form = Formula(
    title="Quadratic form of a polynomial network after two steps",
    backs="theory.lazy_rich.grokking.quadratic_descent",
    symbol=sp.Symbol("A_2"),
    arguments=(x, y, a0, r, lr),
    domain={**SIZES, lr: Interval(1e-3, 0.3, log=True)},
    expression=_twice[1][0],
    proofs={"averages of explicit neurons": _from_neurons, "C is carried by congruence": _congruence},
    call=lambda x, y, a, r, lr: (2, np.array([[x]]), np.array([y]), (np.zeros(1), np.array([[a]])), r, lr),
    read=lambda network: network.form[-1, 0, 0],
    source="derived for the model of Kumar et al. 2024 (arXiv:2310.06110)",
)

descended_linear = Formula(
    title="Linear part of a polynomial network after two steps",
    backs="theory.lazy_rich.grokking.quadratic_descent",
    symbol=sp.Symbol("b_2"),
    arguments=(x, y, a0, r, lr),
    domain=descended_form.domain,
    # Away from a cancellation of the label by the start's own output.
    expression=_twice[0][0] + 10,
    proofs={"the flow is the limit of small steps": _flow_of_step},
    call=descended_form.call,
    read=lambda network: network.linear[-1, 0] + 10,
    source="derived for the model of Kumar et al. 2024 (arXiv:2310.06110)",
)

_lazy = (y - a0 * x**2 / 2) / x * (1 - sp.exp(-(x**2) * t))

lazy_flow = Formula(
    title="Linear part of a polynomial network without richness",
    backs="theory.lazy_rich.grokking.quadratic_flow",
    symbol=sp.Function("b")(t),
    arguments=(t, x, y, a0),
    domain={t: Interval(1e-2, 30, log=True), x: SIZES[x], y: Interval(2, 3), a0: SIZES[a0]},
    expression=_lazy,
    proofs={
        "db/dt = -e x": lambda: sp.diff(_lazy, t) + x * (_lazy * x + a0 * x**2 / 2 - y),
        "b(0) = 0": _lazy.subs(t, 0),
    },
    call=lambda t, x, y, a: (np.array([t]), np.array([[x]]), np.array([y]), (np.zeros(1), np.array([[a]])), 0.0),
    read=lambda network: network.linear[0, 0],
    source="linear regression on one sample",
)

_b1, _b2, _a11, _a12, _a22, _c = sp.symbols("b_1 b_2 a_11 a_12 a_22 c", real=True)


def _gaussian_mean(polynomial, variables):
    """E of a polynomial of independent N(0, v): odd moments vanish, even ones are (k - 1)!! v^{k/2}."""
    total = 0
    for powers, coefficient in sp.Poly(sp.expand(polynomial), *variables).terms():
        moments = [sp.factorial2(k - 1) * v ** sp.Rational(k, 2) if k % 2 == 0 else 0 for k in powers]
        total += coefficient * sp.prod(moments)
    return total


_error = (v * (_a11 + _a22) / 2 - _c) ** 2 + v * (_b1**2 + _b2**2) + v**2 * (_a11**2 + 2 * _a12**2 + _a22**2) / 2


def _moments():
    z1, z2 = sp.symbols("z_1 z_2", real=True)
    f = _b1 * z1 + _b2 * z2 + (_a11 * z1**2 + 2 * _a12 * z1 * z2 + _a22 * z2**2) / 2 - _c
    return sp.expand(_gaussian_mean(f**2, (z1, z2)) - _error)


generalisation_error = Formula(
    title="Error of a quadratic function on Gaussian inputs",
    backs="theory.lazy_rich.grokking.mean_squared_error",
    symbol=sp.Symbol("E"),
    arguments=(_b1, _b2, _a11, _a12, _a22, v, _c),
    domain={**dict.fromkeys((_b1, _b2, _a11, _a12, _a22, _c), Interval(-2, 2)), v: Interval(0.05, 3, log=True)},
    expression=_error + sp.Rational(1, 100),
    proofs={"Gaussian moments": _moments},
    call=lambda b1, b2, a11, a12, a22, v, c: (
        (np.array([b1, b2]), np.array([[a11, a12], [a12, a22]])),
        (np.zeros(2), np.zeros((2, 2))),
        v,
        c,
    ),
    read=lambda error: error + 0.01,
    source="Isserlis' theorem",
)

_x1, _x2 = sp.symbols("x_1 x_2", positive=True)


def _gradients():
    """N / alpha^2 times the product of the outputs' gradients at two explicit neurons."""
    first, second = sp.Matrix([sp.symbols("p_1 p_2")]), sp.Matrix([sp.symbols("q_1 q_2")])
    slopes = [[sp.diff(network(NEURONS, point), w) for w in NEURONS] for point in (first, second)]
    kernel = 2 / alpha**2 * sum(f * g for f, g in zip(*slopes, strict=True))
    b, form = averages(NEURONS)
    inner = (first * second.T)[0]
    linear = ((first + second) * b)[0]
    expected = inner * (1 + epsilon / alpha * (linear + (first * form * second.T)[0]))
    return sp.expand(kernel - expected)


tangent_kernel = Formula(
    title="Tangent kernel of a polynomial network",
    backs="theory.lazy_rich.grokking.quadratic_tangent_kernel",
    symbol=sp.Symbol("K"),
    arguments=(_x1, _x2, _b1, a0, r),
    domain={_x1: Interval(0.3, 2), _x2: Interval(0.3, 2), _b1: Interval(0, 2), a0: SIZES[a0], r: SIZES[r]},
    expression=_x1 * _x2 * (1 + r * (_b1 * (_x1 + _x2) + a0 * _x1 * _x2)),
    proofs={"gradients of explicit neurons": _gradients},
    call=lambda p, q, b, a, r: ((np.array([b]), np.array([[a]])), np.array([[p]]), np.array([[q]]), r),
    read=lambda kernel: kernel[0, 0],
    source="Kumar et al. 2024 (arXiv:2310.06110)",
)
