"""Output scale: a mode of a two-layer network from its two weights; homogeneous networks; the lazy limit."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval
from derivations.kernels import mean_field

t, alpha, lam, degree, growth, k, g, r = sp.symbols("t alpha lambda L m k g r", positive=True)
y, f = sp.symbols("y F", real=True)

_kernel = sp.sqrt(lam**2 + 4 * f**2 / alpha**2)


def _from_weights():
    """K = a^2 + w^2 of F = alpha a w, whose lam = a^2 - w^2 the flow of the loss over alpha^2 keeps."""
    a, w = sp.symbols("a w", real=True)
    output = alpha * a * w
    rates = [-sp.diff((y - output) ** 2 / 2, z) / alpha**2 for z in (a, w)]
    kept = 2 * a * rates[0] - 2 * w * rates[1]
    speed = alpha * (rates[0] * w + a * rates[1]) - (a**2 + w**2) * (y - output)
    square = (a**2 + w**2) ** 2 - (a**2 - w**2) ** 2 - 4 * (output / alpha) ** 2
    return sp.Matrix([sp.expand(kept), sp.expand(speed), sp.expand(square)])


two_layer_kernel = Formula(
    title="Tangent kernel of a mode at a moment of its learning",
    backs="theory.lazy_rich.output_scale.two_layer_kernel",
    symbol=sp.Symbol("K"),
    arguments=(f, lam, alpha),
    domain={f: Interval(-3, 3), lam: Interval(1e-3, 3, log=True), alpha: Interval(1e-2, 1e2, log=True)},
    expression=_kernel,
    proofs={"two weights": _from_weights},
    source="Saxe, McClelland & Ganguli 2014 (arXiv:1312.6120); Kunin et al. 2024 (arXiv:2406.06158)",
)

product = sp.Symbol("p", positive=True)


def _from_coordinates():
    """The same of F = alpha (u^2 - v^2), whose p = u v the flow keeps: twice the kernel and the rate at lam = 4 p."""
    u, v = sp.symbols("u v", positive=True)
    output = alpha * (u**2 - v**2)
    rates = [-sp.diff((y - output) ** 2 / 2, z) / alpha**2 for z in (u, v)]
    kept = v * rates[0] + u * rates[1]
    kernel = 4 * (u**2 + v**2)
    speed = alpha * (2 * u * rates[0] - 2 * v * rates[1]) - kernel * (y - output)
    square = kernel**2 - 4 * _kernel.subs({f: output, lam: 4 * u * v}) ** 2
    return sp.Matrix([sp.expand(kept), sp.expand(speed), sp.expand(square)])


diagonal_kernel = Formula(
    title="Tangent kernel of a coordinate of a diagonal network",
    backs="theory.lazy_rich.output_scale.diagonal_kernel",
    symbol=sp.Symbol("K"),
    arguments=(f, product, alpha),
    domain={f: Interval(-3, 3), product: Interval(1e-3, 3, log=True), alpha: Interval(1e-2, 1e2, log=True)},
    expression=4 * sp.sqrt((f / alpha) ** 2 + 4 * product**2),
    proofs={"two weights": _from_coordinates},
    source="Woodworth et al. 2020 (arXiv:2002.09277)",
)

_units = {mean_field.gamma: sp.sqrt(2 / lam) / alpha, mean_field.lam: lam / 2, mean_field.target: y}
_output = mean_field.aligned_output.expression.subs(_units, simultaneous=True)
# The rate 2 lam sqrt(1 + (g f)^2) of that flow, g^2 = gamma^2 / lam, in the same units.
_rate = 2 * mean_field.lam * sp.sqrt(1 + mean_field.gamma**2 / mean_field.lam * f**2)


two_layer_output = Formula(
    title="Output of a mode that starts with one layer at zero",
    backs="theory.lazy_rich.output_scale.two_layer_output",
    symbol=sp.Function("F")(t),
    arguments=(t, y, lam, alpha),
    domain={
        t: Interval(1e-6, 30, log=True),
        y: Interval(1e-2, 3),
        lam: Interval(0.05, 3, log=True),
        alpha: Interval(0.05, 1e2, log=True),
    },
    expression=_output,
    proofs={
        **mean_field.aligned_output.proofs,
        "its rate is K": lambda: sp.simplify(_rate.subs(_units, simultaneous=True) ** 2 - _kernel**2),
        "F(0) = 0": _output.subs(t, 0),
        "lazy at a large scale": lambda: sp.limit(_output, alpha, sp.oo) - y * (1 - sp.exp(-lam * t)),
    },
    source="Saxe, McClelland & Ganguli 2014 (arXiv:1312.6120), solved here for an imbalanced start",
)

_crossover = 2 * y / (lam * sp.sqrt(growth**2 - 1))

crossover = Formula(
    title="Output scale at which a mode's kernel grows by a factor",
    backs="theory.lazy_rich.output_scale.crossover_scale",
    symbol=sp.Symbol("alpha"),
    arguments=(y, lam, growth),
    domain={y: Interval(1e-2, 3), lam: Interval(1e-2, 3, log=True), growth: Interval(1.01, 5)},
    expression=_crossover,
    proofs={
        "K(y) = m K(0) there": lambda: sp.simplify((_kernel**2 - growth**2 * lam**2).subs(f, y).subs(alpha, _crossover))
    },
    source="solved from the kernel",
)


def _homogeneous():
    """theta' = alpha^{1/L} theta of f = theta^L moves alpha^{2/L - 2} times as fast as alpha f over alpha^2."""
    theta = sp.Symbol("theta", positive=True)
    scaled = alpha * theta**degree
    speed = -sp.diff((y - scaled) ** 2 / 2, theta) / alpha**2
    moved = alpha ** (1 / degree) * theta
    other = (degree * moved ** (degree - 1) * (y - moved**degree)).expand(force=True)
    # The same output, and the same path at another speed.
    return sp.simplify(
        sp.powsimp(sp.expand(alpha ** (1 / degree) * speed - alpha ** (2 / degree - 2) * other), force=True)
    )


rescaled_time = Formula(
    title="Speed of a homogeneous network with output scale",
    backs="theory.lazy_rich.output_scale.equivalent_start",
    symbol=sp.Symbol("c"),
    arguments=(alpha, degree),
    domain={alpha: Interval(1e-2, 1e2, log=True), degree: Interval(1, 6)},
    expression=alpha ** (2 / degree - 2),
    proofs={"the flows are the same path": _homogeneous},
    read=lambda rescaling: rescaling.time,
    source="Chizat, Oyallon & Bach 2019 (arXiv:1812.07956), section 1.2",
)

rescaled_weights = Formula(
    title="Start of a homogeneous network that stands for an output scale",
    backs="theory.lazy_rich.output_scale.equivalent_start",
    symbol=sp.Symbol("a"),
    arguments=(alpha, degree),
    domain=rescaled_time.domain,
    expression=alpha ** (1 / degree),
    proofs={"the outputs are the same": (alpha ** (1 / degree)) ** degree - alpha},
    read=lambda rescaling: rescaling.weights,
    source="Chizat, Oyallon & Bach 2019 (arXiv:1812.07956), section 1.2",
)

_travelled = r / (alpha * sp.sqrt(k)) * (1 - sp.exp(-k * t))

weight_change = Formula(
    title="Distance that the weights of a lazy network travel, one sample",
    backs="theory.lazy_rich.output_scale.lazy_weight_change",
    symbol=sp.Symbol("d"),
    arguments=(t, k, r, alpha),
    domain={
        t: Interval(1e-3, 30, log=True),
        k: Interval(0.1, 3),
        r: Interval(0.1, 3),
        alpha: Interval(0.1, 1e3, log=True),
    },
    expression=_travelled,
    proofs={
        # One weight of slope sqrt(k): F = alpha sqrt(k) theta, d theta/dt = sqrt(k) (r - F) / alpha.
        "the linearised weight": lambda: sp.simplify(
            sp.diff(_travelled, t) - sp.sqrt(k) * (r - alpha * sp.sqrt(k) * _travelled) / alpha
        ),
        "nothing at the start": _travelled.subs(t, 0),
    },
    call=lambda t, k, r, alpha: (np.array([t]), np.array([[k]]), np.array([r]), alpha),
    read=lambda change: change[0],
    source="Chizat, Oyallon & Bach 2019 (arXiv:1812.07956), theorem 2.2",
)
