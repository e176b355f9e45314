"""Momentum on one mode of a network that is linear in its weights: textbook forms, with the roots of the recursion."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

t, x, beta, k, phi, u, rate, mass, lr = sp.symbols("t x beta k phi u r m eta", positive=True)
c = sp.Rational(1, 5)
STEPS = Interval(0, 60)


def _terms(tau, delta, first, residual):
    """e_{k+1} - tau e_k + delta e_{k-1}, e_0 - 1 and e_1 - first of a closed form."""
    here, before, after = (residual.subs(k, k + shift) for shift in (0, -1, 1))
    return after - tau * here + delta * before, residual.subs(k, 0) - 1, residual.subs(k, 1) - first


# Heavy ball, theta_{k+1} = theta_k - lr grad + beta (theta_k - theta_{k-1}):
# e_{k+1} = (1 + beta - x) e_k - beta e_{k-1} and e_1 = 1 - x, with roots d e^{+-i phi} or d e^{+-u}, d^2 = beta.
d = sp.Symbol("d", positive=True)


def _ringing(first):
    """The solution of roots d e^{+-i phi} with e_0 = 1 and e_1 = first."""
    return d**k * (sp.cos(k * phi) + (first / d - sp.cos(phi)) / sp.sin(phi) * sp.sin(k * phi))


def _relaxing(first):
    """The solution of roots d e^{+-u} with e_0 = 1 and e_1 = first."""
    return d**k * (sp.cosh(k * u) + (first / d - sp.cosh(u)) / sp.sinh(u) * sp.sinh(k * u))


def _recursion(tau, delta, first, residual):
    """e_{k+1} = tau e_k - delta e_{k-1} (over d^{k-1}), e_0 = 1 and e_1 = first of a closed form."""

    def at(shift):
        moved = sp.powsimp(sp.expand(residual.subs(k, k + shift) / d ** (k - 1)))
        return sp.expand(sp.expand_power_exp(sp.expand_trig(moved)))

    return {
        "e_{k+1} = tau e_k - delta e_{k-1}": lambda: sp.simplify(at(1) - tau * at(0) + delta * at(-1)),
        "e_0 = 1": residual.subs(k, 0) - 1,
        "e_1": residual.subs(k, 1) - first,
    }


def _filter(residual, x):
    """g / lr = c (1 - e) / x, with a whole number of steps."""
    return (c * (1 - residual) / x).subs(k, sp.floor(k))


def _call(where):
    """One step of size 1 on a mode whose x = lr c lam is `where(beta, angle)`."""
    return lambda k, beta, angle: (np.floor(k), 5 * where(beta, angle), 5, 1.0, beta)


_x = 1 + d**2 - 2 * d * sp.cos(phi)

heavy_ball_ringing = Formula(
    title="Spectral filter of a heavy ball in a mode that rings",
    backs="theory.kernels.momentum.heavy_ball_filter",
    symbol=sp.Function("g_k")(x),
    arguments=(k, beta, phi),
    domain={k: STEPS, beta: Interval(0.05, 0.95), phi: Interval(0.1, 3.1)},
    expression=_filter(_ringing(1 - _x), _x).subs(d, sp.sqrt(beta)),
    proofs=_recursion(1 + d**2 - _x, d**2, 1 - _x, _ringing(1 - _x)),
    call=_call(lambda beta, phi: 1 + beta - 2 * np.sqrt(beta) * np.cos(phi)),
    source="Goh 2017; Polyak 1964",
)

_x = 1 + d**2 - 2 * d * sp.cosh(u)
q = sp.Symbol("q", positive=True)

heavy_ball_relaxing = Formula(
    title="Spectral filter of a heavy ball in a mode that relaxes",
    backs="theory.kernels.momentum.heavy_ball_filter",
    symbol=sp.Function("g_k")(x),
    arguments=(k, beta, q),
    # u runs from 0, critical damping, to -ln(beta)/2, where lam = 0.
    domain={k: STEPS, beta: Interval(0.05, 0.95), q: Interval(0.05, 0.95)},
    expression=_filter(_relaxing(1 - _x), _x).subs(u, -q * sp.log(beta) / 2).subs(d, sp.sqrt(beta)),
    proofs=_recursion(1 + d**2 - _x, d**2, 1 - _x, _relaxing(1 - _x)),
    call=_call(lambda beta, q: 1 + beta - 2 * np.sqrt(beta) * np.cosh(q * np.log(beta) / 2)),
    source="Goh 2017; Polyak 1964",
)

# Nesterov: tau = (1 + beta)(1 - x), delta = beta (1 - x), e_1 = 1 - (1 + beta) x. With beta (1 - x) = d^2 and complex
# roots d e^{+-i phi}: (1 + beta) d = 2 beta cos(phi).
_d = 2 * beta * sp.cos(phi) / (1 + beta)
_x = 1 - d**2 / beta
_first = 1 - (1 + beta) * _x
_x_of_angle = 1 - _d**2 / beta

nesterov_ringing = Formula(
    title="Spectral filter of Nesterov momentum in a mode that rings",
    backs="theory.kernels.momentum.nesterov_filter",
    symbol=sp.Function("g_k")(x),
    arguments=(k, beta, phi),
    domain={k: STEPS, beta: Interval(0.05, 0.95), phi: Interval(0.4, 1.5)},
    expression=_filter(_ringing(_first), _x).subs(d, _d),
    proofs=_recursion(2 * d * sp.cos(phi), d**2, _first, _ringing(_first))
    | {
        "tau = (1 + beta)(1 - x)": 2 * _d * sp.cos(phi) - (1 + beta) * (1 - _x_of_angle),
        "delta = beta (1 - x)": _d**2 - beta * (1 - _x_of_angle),
    },
    call=_call(lambda beta, phi: 1 - 4 * beta * np.cos(phi) ** 2 / (1 + beta) ** 2),
    source="Nesterov 1983; Sutskever et al. 2013",
)

# From the optimisers as they are written to the two-term recursions: per unit of target, grad L = x h - 1 at lr = 1.
_h, _v = sp.symbols("h v")


def _eliminated(step, tau, delta):
    """(1 - x h) of three successive steps of the map (h, v): e_{k+2} - tau e_{k+1} + delta e_k."""
    one = step(_h, _v)
    two = step(*one)
    e = [1 - x * position for position in (_h, one[0], two[0])]
    return sp.expand(e[2] - tau * e[1] + delta * e[0])


def _heavy_step(h, v):
    v = beta * v + (x * h - 1)
    return h - v, v


def _nesterov_step(h, v):
    gradient = x * h - 1
    v = beta * v + gradient
    return h - gradient - beta * v, v


_edge = 2 * (1 + beta) / rate
z = sp.Symbol("z")

heavy_ball_stable_lr = Formula(
    title="Largest stable learning rate of a heavy ball",
    backs="theory.kernels.momentum.heavy_ball_stable_lr",
    symbol=sp.Symbol("eta_max"),
    arguments=(rate, beta),
    domain={rate: Interval(0.01, 10, log=True), beta: Interval(0, 0.99)},
    expression=_edge,
    proofs={
        "the recursion of the optimiser": _eliminated(_heavy_step, 1 + beta - x, beta),
        "its root -1": (z**2 - (1 + beta - x) * z + beta).subs({z: -1, x: _edge * rate}),
    },
    call=lambda rate, beta: (rate, 1, beta),
    source="Polyak 1964",
)

_nesterov_edge = 2 * (1 + beta) / ((1 + 2 * beta) * rate)

nesterov_stable_lr = Formula(
    title="Largest stable learning rate of Nesterov momentum",
    backs="theory.kernels.momentum.nesterov_stable_lr",
    symbol=sp.Symbol("eta_max"),
    arguments=(rate, beta),
    domain={rate: Interval(0.01, 10, log=True), beta: Interval(0, 0.99)},
    expression=_nesterov_edge,
    proofs={
        "the recursion of the optimiser": _eliminated(_nesterov_step, (1 + beta) * (1 - x), beta * (1 - x)),
        "its root -1": (z**2 - (1 + beta) * (1 - x) * z + beta * (1 - x)).subs({z: -1, x: _nesterov_edge * rate}),
    },
    call=lambda rate, beta: (rate, 1, beta),
    source="the root -1 of the recursion",
)

# Inertia: m e'' + e' + r e = 0 from rest.
_root = sp.sqrt(1 - 4 * mass * rate)
_slow, _fast = (1 - _root) / (2 * mass), (1 + _root) / (2 * mass)
_relaxing_flow = (_fast * sp.exp(-_slow * t) - _slow * sp.exp(-_fast * t)) / (_fast - _slow)
_omega = sp.sqrt(4 * mass * rate - 1) / (2 * mass)
_ring = sp.exp(-t / (2 * mass)) * (sp.cos(_omega * t) + sp.sin(_omega * t) / (2 * mass * _omega))


def _newton(e):
    return {
        "m e'' + e' + r e = 0": mass * sp.diff(e, t, 2) + sp.diff(e, t) + rate * e,
        "e(0) = 1": e.subs(t, 0) - 1,
        "e'(0) = 0": sp.diff(e, t).subs(t, 0),
    }


relaxing_flow = Formula(
    title="Spectral filter of a flow with inertia, in a mode that relaxes",
    backs="theory.kernels.momentum.heavy_ball_flow_filter",
    symbol=sp.Function("g_t")(rate),
    arguments=(t, rate, mass),
    domain={t: Interval(1e-3, 300), rate: Interval(1e-4, 2, log=True), mass: Interval(1e-4, 0.12, log=True)},
    expression=(1 - _relaxing_flow) / rate,
    proofs=_newton(_relaxing_flow),
    call=lambda t, rate, mass: (t, rate, 1, mass),
    source="Qian 1999",
)

ringing_flow = Formula(
    title="Spectral filter of a flow with inertia, in a mode that rings",
    backs="theory.kernels.momentum.heavy_ball_flow_filter",
    symbol=sp.Function("g_t")(rate),
    arguments=(t, rate, mass),
    domain={t: Interval(1e-3, 300), rate: Interval(0.3, 5), mass: Interval(1, 20)},
    expression=(1 - _ring) / rate,
    proofs=_newton(_ring),
    call=lambda t, rate, mass: (t, rate, 1, mass),
    source="Qian 1999",
)

_mass = (1 + beta) * lr / (2 * (1 - beta) ** 2)


def _modified():
    """The heavy ball's recursion on a smooth curve in t = lr k / (1 - beta): mass theta'' + theta' = -grad + O(h^2)."""
    h, velocity, acceleration, gradient = sp.symbols("h velocity acceleration gradient")
    ahead, behind = h * velocity + h**2 * acceleration / 2, h * velocity - h**2 * acceleration / 2
    residual = (ahead - beta * behind + lr * gradient).subs(h, lr / (1 - beta)) / lr
    return residual - (_mass * acceleration + velocity + gradient)


heavy_ball_mass = Formula(
    title="Inertia of the flow that a heavy ball follows",
    backs="theory.kernels.momentum.heavy_ball_mass",
    symbol=sp.Symbol("m"),
    arguments=(lr, beta),
    domain={lr: Interval(1e-4, 1, log=True), beta: Interval(0, 0.99)},
    expression=_mass,
    proofs={"the recursion expanded in the time of a step, to second order": _modified},
    source="Kovachki & Stuart 2021, modified equation",
)

low, high = sp.symbols("r_min r_max", positive=True)
_best_lr = 4 / (sp.sqrt(high) + sp.sqrt(low)) ** 2
_best = ((sp.sqrt(high) - sp.sqrt(low)) / (sp.sqrt(high) + sp.sqrt(low))) ** 2


def _double_root(r):
    """The discriminant of z^2 - (1 + beta - lr r) z + beta."""
    return (1 + _best - _best_lr * r) ** 2 - 4 * _best


polyak_momentum = Formula(
    title="Momentum of the fastest heavy ball",
    backs="theory.kernels.momentum.polyak_momentum",
    symbol=beta,
    arguments=(low, high),
    domain={low: Interval(1e-3, 0.3, log=True), high: Interval(0.5, 50, log=True)},
    expression=_best,
    proofs={
        "both ends of the spectrum are critically damped, the lower": _double_root(low),
        "and the upper": _double_root(high),
    },
    call=lambda low, high: (low, high, 1),
    read=lambda found: found.momentum,
    source="Polyak 1964",
)
