"""Zonal kernels on the sphere: Funk-Hecke integrals, done."""

import numpy as np
import sympy as sp

from derivations.formula import Formula, Interval

t, p, c = sp.symbols("t p c", positive=True)
_SOURCE = "Atkinson & Han 2012, Spherical Harmonics, section 2"


def legendre(k, d):
    """The Legendre polynomial of degree k in d dimensions, by Rodrigues' formula."""
    half = sp.Rational(d - 3, 2)
    norm = (-1) ** k * sp.gamma(half + 1) / (2**k * sp.gamma(k + half + 1))
    return sp.simplify(norm * (1 - t**2) ** -half * sp.diff((1 - t**2) ** (k + half), t, k))


def count(k, d):
    """Harmonic polynomials of degree k: homogeneous ones less those of degree k - 2."""
    return sp.binomial(k + d - 1, d - 1) - (sp.binomial(k + d - 3, d - 1) if k > 1 else 0)


def mean(f, d):
    """Mean over the sphere in d dimensions, d odd."""
    weight = (1 - t**2) ** sp.Rational(d - 3, 2)
    return sp.integrate(sp.expand(f * weight), (t, -1, 1)) / sp.integrate(weight, (t, -1, 1))


def _polynomial(k, d):
    form = legendre(k, d)
    return Formula(
        title=f"Legendre polynomial of degree {k} in {d} dimensions",
        backs="theory.kernels.sphere.legendre",
        symbol=sp.Function(f"P_{k}")(t),
        arguments=(t,),
        domain={t: Interval(-1, 1)},
        expression=sp.expand(form),
        proofs={
            "one at t = 1": form.subs(t, 1) - 1,
            "orthogonal to lower degrees": lambda: sum(mean(form * legendre(j, d), d) ** 2 for j in range(k)),
            "mean square 1 / N(d, k)": lambda: mean(form**2, d) * count(k, d) - 1,
        },
        call=lambda t: (t, k, d),
        # In units of the largest term, for the zeros of the polynomial.
        read=lambda values: values[k],
        source=_SOURCE,
    )


def _shifted(k, d):
    """The same where it has no zero: 2 + P_k, as the kernel with eigenvalues 2, 0, ..., 1 / N."""
    form = 2 + legendre(k, d)
    spectrum = np.array([2.0] + [0.0] * (k - 1) + [1 / float(count(k, d))])
    return Formula(
        title=f"A kernel of two levels in {d} dimensions",
        backs="theory.kernels.sphere.zonal_kernel",
        symbol=sp.Function("k")(t),
        arguments=(t,),
        domain={t: Interval(-1, 1)},
        expression=sp.expand(form),
        proofs={
            "its mean is the eigenvalue of degree 0": lambda: mean(form, d) - 2,
            f"that of degree {k}": lambda: mean(form * legendre(k, d), d) - sp.Integer(1) / count(k, d),
        },
        call=lambda t: (t, spectrum, d),
        source=_SOURCE,
    )


cubic_in_three = _shifted(3, 3)
quartic_in_five = _shifted(4, 5)
quintic_in_seven = _shifted(5, 7)

# Even dimensions are algebra too: at d = 4 the polynomials are Chebyshev's of the second kind.
_angle = sp.Symbol("a", positive=True)
_second_kind = 2 + sp.sin(6 * _angle) / (6 * sp.sin(_angle))
quintic_in_four = Formula(
    title="A kernel of two levels in 4 dimensions",
    backs="theory.kernels.sphere.zonal_kernel",
    symbol=sp.Function("k")(_angle),
    arguments=(_angle,),
    domain={_angle: Interval(0.1, 3)},
    expression=_second_kind,
    proofs={"P_5 in 4 dimensions": lambda: sp.expand_trig(_second_kind) - 2 - legendre(5, 4).subs(t, sp.cos(_angle))},
    call=lambda a: (np.cos(a), np.array([2.0, 0, 0, 0, 0, 1 / 36]), 4),
    source=_SOURCE,
)

_exponential = {
    0: sp.sinh(c) / c,
    1: sp.cosh(c) / c - sp.sinh(c) / c**2,
    2: (1 / c + 3 / c**3) * sp.sinh(c) - 3 * sp.cosh(c) / c**2,
}


def _of_exponential(k):
    def kernel(c):
        import jax.numpy as jnp

        return lambda t: jnp.exp(c * t)

    return Formula(
        title=f"Eigenvalue of degree {k} of the kernel exp(c x . x') in 3 dimensions",
        backs="theory.kernels.sphere.zonal_eigenvalues",
        symbol=sp.Symbol(f"lambda_{k}"),
        arguments=(c,),
        domain={c: Interval(0.5, 5)},
        expression=_exponential[k],
        proofs={
            "Funk-Hecke": lambda: (mean(sp.exp(c * t) * legendre(k, 3), 3) - _exponential[k]).rewrite(sp.exp),
        },
        call=lambda c: (kernel(c), 4, 3),
        read=lambda values: values[k],
        source="Funk-Hecke formula; modified spherical Bessel functions",
    )


mean_of_exponential, first_of_exponential, second_of_exponential = map(_of_exponential, (0, 1, 2))


def _chord(k, d):
    half = sp.Rational(d - 1, 2)
    closed = sp.rf(-p, k) * sp.gamma(p + half) * sp.gamma(d - 1) / (sp.gamma(half) * sp.gamma(k + p + d - 1))
    u = sp.Symbol("u", positive=True)

    def integral():
        """With u = (1 - t)/2 the integrand is a sum of powers of u."""
        terms = sp.Add.make_args(sp.expand((legendre(k, d) * (1 - t**2) ** sp.Rational(d - 3, 2)).subs(t, 1 - 2 * u)))
        powers = sum(sp.Poly(term, u).LC() / (sp.Poly(term, u).degree() + p + 1) for term in terms)
        weight = sp.integrate((1 - t**2) ** sp.Rational(d - 3, 2), (t, -1, 1)) / 2
        return sp.gammasimp(powers / weight - closed)

    return Formula(
        title=f"Eigenvalue of degree {k} of the kernel (|x - x'|/2)^2p in {d} dimensions",
        backs="theory.kernels.sphere.chord_eigenvalues",
        symbol=sp.Symbol(f"lambda_{k}"),
        arguments=(p,),
        domain={p: Interval(0.05, 0.95)},
        expression=closed,
        proofs={"Funk-Hecke": integral},
        call=lambda p: (p, k, d),
        read=lambda values: values[k],
        source="Rodrigues' formula",
    )


chord_mean, chord_third, chord_fourth = _chord(0, 3), _chord(3, 5), _chord(4, 7)
