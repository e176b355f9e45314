"""Perceptrons with related teachers: what sign labels measure, in the textbook's integrals and in shorter ones."""

import numpy as np
import sympy as sp
from scipy.integrate import quad
from scipy.special import log_ndtr

from derivations.formula import Formula, Interval

alpha, q = sp.symbols("alpha q", positive=True)
R, rho, z, v = sp.symbols("R rho z v", real=True)


class phi(sp.Function):
    """Density of a standard normal variable, known by its derivative."""

    def fdiff(self, argindex=1):
        return -self.args[0] * self


class Phi(sp.Function):
    """Its distribution."""

    def fdiff(self, argindex=1):
        return phi(self.args[0])


def density(x):
    return sp.exp(-(x**2) / 2) / sp.sqrt(2 * sp.pi)


def normal_mean(integrand, x):
    """The integral over a standard normal x, folded so that no Phi of a negative number is a difference.

    It ends at 13, where the density is below 1e-37.
    """
    up = lambda w: sp.erfc(-w / sp.sqrt(2)) / 2  # noqa: E731
    below = integrand.subs(x, -x).replace(Phi, lambda w: sp.erfc(sp.Abs(w) / sp.sqrt(2)) / 2 if w == -u else up(w))
    explicit = [part.replace(phi, density) for part in (integrand.replace(Phi, up), below)]
    return sp.Integral(density(x) * sum(explicit), (x, 0, 13))


u = sp.sqrt(q / (1 - q)) * z
a = R * z / sp.sqrt(q - R**2)
SOURCE = "Gyorgyi & Tishby 1990"

# Textbook integrands, of a standard normal z.
_square = 2 * alpha / (1 - q) * phi(u) ** 2 / Phi(u)
_mixed = 2 * alpha / sp.sqrt((1 - R**2 / q) * (1 - q)) * phi(a) * phi(u) / Phi(u)
_matched = alpha * sp.sqrt(2 / sp.pi) / sp.sqrt(1 - q) * phi(sp.sqrt(q) * v) / Phi(sp.sqrt(q) * v)
_slope = sp.sqrt((q - R**2) / (1 - q))
_signal = alpha * sp.sqrt(2 / sp.pi) / sp.sqrt(1 - q) * phi(_slope * v) / Phi(_slope * v)


# For the proofs u = s z and a = t z: q = s^2 / (1 + s^2), R = sqrt(q) t / sqrt(1 + t^2).
s = sp.Symbol("s", positive=True)
t = sp.Symbol("t", real=True)
_q = s**2 / (1 + s**2)
_R = sp.sqrt(_q) * t / sp.sqrt(1 + t**2)
_per_q = (1 + s**2) ** 2 / (2 * s)


def _in_slopes(expression):
    """`expression` of q and R in the slopes s and t."""
    opaque = expression.subs({u: s * z, a: t * z})
    return opaque.subs({q: _q, R: _R}, simultaneous=True)


def _substituted(integrand, scale, slope, shorter):
    """phi(z) integrand(z) dz at z = scale v against phi(v) shorter(v) dv, where both have kappa at slope v."""
    plain = lambda x: x.replace(phi, density).replace(Phi, lambda _: sp.Integer(1))  # noqa: E731
    before = plain(_in_slopes(phi(z) * integrand).subs(z, scale * v)) * scale
    after = plain(phi(v) * shorter).subs({q: _q, R: _R}, simultaneous=True)
    # The arguments of Phi, and what is left of the integrands.
    return sp.Matrix(
        [sp.simplify((s * scale) ** 2 - slope**2), sp.simplify(sp.powsimp(sp.simplify(before / after))) - 1]
    )


def _total(expression, end):
    """`expression` less the derivative of what partial integration leaves at the ends."""
    return sp.simplify(sp.expand(expression - sp.diff(end, z)))


def _from_likelihood():
    """2 alpha dPsi/dq, Psi = 2 int Dz Phi(u) ln Phi(u)."""
    likelihood = 2 * alpha * _per_q * sp.diff(2 * phi(z) * Phi(s * z) * sp.log(Phi(s * z)), s)
    end = -2 * alpha * (1 + s**2) / s * phi(z) * (sp.log(Phi(s * z)) + 1) * phi(s * z)
    return _total(likelihood - phi(z) * _in_slopes(_square), end)


def _signal_from_energy():
    """alpha dE/dR, E = 2 int Dz Phi(a) ln Phi(u)."""
    energy = alpha * sp.diff(2 * phi(z) * Phi(t * z) * sp.log(Phi(s * z)), t) / sp.diff(_R, t)
    end = -2 * alpha * sp.sqrt((1 + t**2) / _q) * phi(z) * phi(t * z) * sp.log(Phi(s * z))
    return _total(energy - phi(z) * _in_slopes(_mixed), end)


_noise = 2 * alpha / (1 - q) * Phi(a) * (phi(u) / Phi(u)) ** 2


def _precision_from_energy():
    """-2 alpha dE/dq at fixed R."""
    energy = 2 * phi(z) * Phi(t * z) * sp.log(Phi(s * z))
    per_q = _per_q * sp.diff(energy, s) - t * (1 + t**2) / (2 * _q) * sp.diff(energy, t)
    end = 2 * alpha * (1 + s**2) / s * phi(z) * Phi(t * z) * phi(s * z) / Phi(s * z)
    end -= 2 * alpha * t / _q * phi(z) * phi(t * z) * sp.log(Phi(s * z))
    return _total(-2 * alpha * per_q - phi(z) * _in_slopes(_noise), end)


sign_precision = Formula(
    title="Precision with which sign labels measure a weight",
    backs="theory.lazy_rich.continual_perceptron.sign_precision",
    symbol=sp.Function("qhat")(q),
    arguments=(q, alpha),
    domain={q: Interval(0.02, 0.95), alpha: Interval(0.1, 5, log=True)},
    expression=normal_mean(_square, z),
    proofs={
        "shorter integrand, z = v sqrt(1 - q)": lambda: _substituted(
            _square, 1 / sp.sqrt(1 + s**2), sp.sqrt(_q), _matched
        ),
        "2 alpha dPsi/dq": _from_likelihood,
    },
    source=SOURCE,
)

channel_signal = Formula(
    title="Signal of sign labels for a student that expects wrongly",
    backs="theory.lazy_rich.continual_perceptron.sign_channel",
    symbol=sp.Function("Rhat")(R, q),
    arguments=(R, q, alpha),
    domain={R: Interval(-0.3, 0.3), q: Interval(0.15, 0.9), alpha: Interval(0.1, 5, log=True)},
    expression=normal_mean(_mixed, z),
    proofs={
        "shorter integrand, z = v sqrt((q - R^2) / q)": lambda: _substituted(
            _mixed, 1 / sp.sqrt(1 + t**2), s / sp.sqrt(1 + t**2), _signal
        ),
        "alpha dE/dR": _signal_from_energy,
    },
    read=lambda channel: channel.signal,
    source="derived here",
)

channel_noise = Formula(
    title="Noise of sign labels for a student that expects wrongly",
    backs="theory.lazy_rich.continual_perceptron.sign_channel",
    symbol=sp.Function("qhat")(R, q),
    arguments=(R, q, alpha),
    domain=channel_signal.domain,
    expression=normal_mean(_noise, z),
    proofs={
        "-2 alpha dE/dq": _precision_from_energy,
        "R = q is t = s": sp.simplify((_R - _q).subs(t, s)),
    },
    read=lambda channel: channel.precision,
    source="derived here",
)

_p = sp.Symbol("p", positive=True)
_S = sp.Matrix([[1, rho], [rho, 1]])
_C = (_S.inv() + _p * sp.eye(2)).inv()


def _load(rho, q):
    """alpha at which two tasks with as many samples have the overlap q: p from C_11 = 1 - q, alpha from p."""
    v, s = 1 - q, 1 - rho**2
    # v ((1 + p)^2 - p^2 rho^2) = 1 + p s, a quadratic in p.
    p = ((s - 2 * v) + np.sqrt((s - 2 * v) ** 2 + 4 * v * s * q)) / (2 * v * s)
    kappa = lambda u: np.exp(-(u**2) / 2 - log_ndtr(u)) / np.sqrt(2 * np.pi)  # noqa: E731
    mean = quad(lambda x: np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi) * kappa(np.sqrt(q) * x), -12, 12, epsabs=1e-13)[0]
    return p * np.sqrt(np.pi * v / 2) / mean


def _quadratic():
    p_of = ((1 - rho**2 - 2 * (1 - q)) + sp.sqrt((1 - rho**2 - 2 * (1 - q)) ** 2 + 4 * (1 - q) * (1 - rho**2) * q)) / (
        2 * (1 - q) * (1 - rho**2)
    )
    return sp.simplify(sp.expand(sp.numer(sp.together(sp.simplify(_C[0, 0]).subs(_p, p_of) - (1 - q)))))


posterior_overlaps = Formula(
    title="Overlap of two tasks with as many samples, at the load that gives it",
    backs="theory.lazy_rich.continual_perceptron.posterior_overlaps",
    symbol=q,
    arguments=(rho, q),
    domain={rho: Interval(-0.9, 0.9), q: Interval(0.1, 0.9)},
    expression=q,
    proofs={"posterior variance 1 - q": _quadratic},
    call=lambda rho, q: (np.array([[1, rho], [rho, 1]]), np.full(2, _load(rho, q))),
    read=lambda overlaps: overlaps[1],
    source="derived here",
)

_c = sp.Symbol("c", real=True)
_disagreement = sp.acos(_c) / sp.pi
_density = 1 / (2 * sp.pi * sp.sqrt(1 - _c**2))

posterior_mean_error = Formula(
    title="Generalisation error of a perceptron",
    backs="theory.lazy_rich.continual_perceptron.posterior_mean_error",
    symbol=sp.Symbol("epsilon"),
    arguments=(q, R),
    domain={q: Interval(0.2, 1), R: Interval(-0.4, 0.4)},
    expression=_disagreement.subs(_c, R / sp.sqrt(q)),
    proofs={
        # Price: P(x > 0, y > 0) grows with the correlation by the density at the origin; two such quadrants agree.
        "quadrants of two normal variables": sp.diff(_disagreement, _c) + 2 * _density,
        "independent": _disagreement.subs(_c, 0) - sp.Rational(1, 2),
    },
    source=SOURCE,
)

gibbs_error = Formula(
    title="Generalisation error of one sample of the posterior",
    backs="theory.lazy_rich.continual_perceptron.gibbs_error",
    symbol=sp.Symbol("epsilon_G"),
    arguments=(q,),
    domain={q: Interval(0, 0.99)},
    expression=sp.acos(q) / sp.pi,
    proofs={"its norm is one, its overlap q": _disagreement.subs(_c, q) - sp.acos(q) / sp.pi},
    source=SOURCE,
)
