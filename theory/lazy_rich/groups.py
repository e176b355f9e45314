"""Finite groups: multiplication tables, irreducible representations and the Fourier transform.

Elements are numbered from 0, which is the identity, and a group of order M is its table: table[g, h] is the number of
gh. A real function on the group splits into orthogonal parts, one for each irreducible representation (irrep) rho over
the real numbers. These are of three types, told apart by which matrices commute with all rho(g):

| type | example | real functions in its part |
|---|---|---|
| real | all irreps of dihedral groups | d^2 |
| complex | exp(2 pi i k g / M), 2k != M: a pair with its conjugate, listed once | 2 d^2 |
| quaternionic | the two-dimensional one of the quaternion group | d^2 |

d is the dimension of rho over the complex numbers. `cyclic`, `dihedral`, `dicyclic` and `direct_product` give groups
with all of their irreps in closed form.
"""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Complex, Float, Int, Integer, Real

from theory.checks import real, require, whole


class Irrep(eqx.Module):
    """An irreducible representation: unitary matrices rho(g), (M, d, d), and its type.

    `kind` is "real", "complex" or "quaternionic". Matrices of the real type hold real numbers.
    """

    matrices: Complex[Array, "M d d"]
    kind: str = eqx.field(static=True)

    @property
    def dimension(self) -> int:
        """d, over the complex numbers."""
        return self.matrices.shape[-1]

    @property
    def copies(self) -> int:
        """Complex irreps that it stands for: itself, and its conjugate if that is another one."""
        return 2 if self.kind == "complex" else 1


class Group(eqx.Module):
    """A finite group: its table, (M, M), and its irreps over the real numbers, the trivial one first."""

    table: Int[Array, "M M"]
    irreps: tuple[Irrep, ...]

    @property
    def order(self) -> int:
        """M, the number of elements."""
        return self.table.shape[0]


def cyclic(order: int) -> Group:
    """Z_M: addition modulo M. Irreps rho_k(g) = exp(2 pi i k g / M), k = 0 .. M/2; real for k = 0 and k = M/2.

    Arguments: order: M >= 1, a Python int.
    Returns: the `Group`; irrep k stands at place k.
    Holds when: always.
    Source: standard.
    """
    m = whole("order", order)
    g = np.arange(m)
    irreps = [
        _irrep(np.exp(2j * np.pi * k * g / m)[:, None, None], "real" if 2 * k % m == 0 else "complex")
        for k in range(m // 2 + 1)
    ]
    return _group((g[:, None] + g) % m, irreps)


def dihedral(sides: int) -> Group:
    """D_n, of order 2n: rotations r^k (numbers k) and reflections r^k s (numbers n + k), s r s = 1/r. D_3 is S_3.

    Two-dimensional irreps send r to the rotation by 2 pi j / n and s to diag(1, -1), j = 1, 2, .. below n/2; the
    others send s to +-1 and r to 1 or, for even n, to -1. All are real.

    Arguments: sides: n >= 3, a Python int.
    Returns: the `Group`: one-dimensional irreps first.
    Holds when: always.
    Source: standard; J.-P. Serre, Linear Representations of Finite Groups, 5.3.
    """
    n = whole("sides", sides, at_least=3)
    k, flipped = np.tile(np.arange(n), 2), np.repeat([0, 1], n)
    table = _twisted_table(k, flipped, n, 0)
    irreps = [_irrep(sign(k, flipped)[:, None, None], "real") for sign in _signs(n % 2 == 0)]
    irreps += [_irrep(_planar(2 * np.pi * j / n, k, flipped), "real") for j in range(1, (n + 1) // 2)]
    return _group(table, irreps)


def dicyclic(half: int) -> Group:
    """Dic_n, of order 4n: a^k (numbers k < 2n) and a^k x (numbers 2n + k), x^2 = a^n, x a = x / a. Dic_2 is Q_8.

    Two-dimensional irreps j = 1 .. n-1 send a to the rotation by pi j / n. Even j are real, as those of a dihedral
    group; odd j are quaternionic: a -> diag(e, 1/e), x -> ((0, -1), (1, 0)), e = exp(i pi j / n).

    Arguments: half: n >= 2, a Python int; 2 gives the quaternion group {+-1, +-i, +-j, +-k}.
    Returns: the `Group`: one-dimensional irreps first. For odd n two of these are a complex pair, a -> -1, x -> +-i.
    Holds when: always.
    Source: standard.
    """
    n = whole("half", half, at_least=2)
    k, flipped = np.tile(np.arange(2 * n), 2), np.repeat([0, 1], 2 * n)
    table = _twisted_table(k, flipped, 2 * n, n)
    irreps = [_irrep(sign(k, flipped)[:, None, None], "real") for sign in _signs(n % 2 == 0)]
    if n % 2:
        irreps.append(_irrep(((-1.0) ** k * 1j**flipped)[:, None, None], "complex"))
    for j in range(1, n):
        if j % 2 == 0:
            irreps.append(_irrep(_planar(np.pi * j / n, k, flipped), "real"))
        else:
            turn = np.exp(1j * np.pi * j * k / n)
            zero = np.zeros_like(turn)
            plain = np.stack([turn, zero, zero, turn.conj()], axis=-1).reshape(-1, 2, 2)
            x = np.array([[0, -1], [1, 0]])
            irreps.append(_irrep(np.where(flipped[:, None, None] == 1, plain @ x, plain), "quaternionic"))
    return _group(table, irreps)


def direct_product(first: Group, second: Group) -> Group:
    """G x H: pairs (g, h), numbered |H| g + h, multiplied part by part; irreps are products rho (x) sigma.

    A product of two complex irreps stands for two: rho (x) sigma and rho (x) conj sigma.

    Arguments: first, second: two `Group`, not both with a quaternionic irrep (whose product has no real matrices here).
    Returns: the `Group`.
    Holds when: always.
    Source: standard; Serre, Linear Representations of Finite Groups, 3.2.
    """
    if all(any(irrep.kind == "quaternionic" for irrep in group.irreps) for group in (first, second)):
        raise ValueError("first and second must not both have quaternionic irreps")
    g, h = (np.asarray(group.table) for group in (first, second))
    n = len(h)
    table = (g[:, None, :, None] * n + h[None, :, None, :]).reshape(len(g) * n, len(g) * n)
    irreps = []
    for rho in first.irreps:
        for sigma in second.irreps:
            kinds = {rho.kind, sigma.kind}
            kind = "complex" if "complex" in kinds else "quaternionic" if "quaternionic" in kinds else "real"
            irreps.append(_irrep(_kron(rho.matrices, sigma.matrices), kind))
            if rho.kind == sigma.kind == "complex":
                irreps.append(_irrep(_kron(rho.matrices, np.conj(sigma.matrices)), kind))
    return _group(table, irreps)


def convolution(
    f: Real[ArrayLike, "*nodes M"], h: Real[ArrayLike, "*nodes elements"], table: Integer[ArrayLike, "N N"]
) -> Float[Array, "*nodes M"]:
    """Group convolution (f * h)(a) = sum over pairs with g g' = a of f(g) h(g').

    Arguments:
        f, h: functions on the group, (..., M); table: multiplication table, (M, M).
    Returns:
        (..., M). Its Fourier transform is the product of theirs.
    Holds when: always.
    Source: a definition.
    """
    f, h, table = real("f", f), real("h", h), group_table(table)
    for name, value in (("f", f), ("h", h)):
        if value.shape[-1:] != table.shape[:1]:
            raise ValueError(f"{name} must have {table.shape[0]} entries along its last axis, got shape {value.shape}")
    return jnp.einsum("...g,...ga->...a", f, h[..., division(table)])


def division(table: Integer[ArrayLike, "M M"]) -> Int[Array, "M M"]:
    """Left division: entry [g, a] is the element h with g h = a.

    Arguments: table: multiplication table, (M, M).
    Returns: (M, M), whole numbers.
    Holds when: every element stands once in each row of the table.
    Source: a definition.
    """
    return jnp.argsort(jnp.asarray(table), axis=1)


def fourier(f: Real[ArrayLike, "*nodes M"], irrep: Irrep) -> Complex[Array, "*nodes d d"]:
    """Fourier transform sum_g f(g) rho(g).

    Arguments: f: functions on the group, (..., M); irrep: one of `Group.irreps`.
    Returns: (..., d, d).
    Holds when: always.
    Source: a definition; Serre, Linear Representations of Finite Groups, 6.2.
    """
    return jnp.einsum("...g,gij->...ij", _function(f, irrep.matrices.shape[0]), irrep.matrices)


def irrep_power(f: Real[ArrayLike, "*nodes M"], group: Group) -> Float[Array, "*nodes irreps"]:
    """Squared norm of a function's part in each irrep: (c d / M) |f^|_F^2, c = 2 for a complex pair and 1 otherwise.

    Arguments: f: functions on the group, (..., M); group: the `Group`.
    Returns: (..., number of irreps), which sums to |f|^2.
    Holds when: always (Parseval).
    Source: derived in derivations/lazy_rich/groups.py.
    """
    f = _function(f, group.order)
    powers = [
        rho.copies * rho.dimension / group.order * jnp.sum(jnp.abs(fourier(f, rho)) ** 2, axis=(-2, -1))
        for rho in group.irreps
    ]
    return jnp.stack(powers, axis=-1)


def group_table(table: Integer[ArrayLike, "M columns"]) -> Int[Array, "M M"]:
    """`table` as an array, or a sentence: square, with every element once in each row and column.

    Arguments: table: whole numbers, (M, M).
    Returns: the same, (M, M).
    Holds when: always. Associativity is not looked at.
    Source: a definition.
    """
    table = jnp.asarray(table)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not jnp.issubdtype(table.dtype, jnp.integer):
        raise ValueError(f"table must be a square matrix of whole numbers, got {table.dtype} of shape {table.shape}")
    elements = jnp.arange(table.shape[0])
    latin = (jnp.sort(table, axis=0) == elements[:, None]).all() & (jnp.sort(table, axis=1) == elements).all()
    checked = require("table", table.astype(float), latin, "must hold every element once in each row and column")
    return checked.astype(table.dtype)


def _function(f, order: int) -> Float[Array, "*nodes M"]:
    f = real("f", f)
    if f.shape[-1:] != (order,):
        raise ValueError(f"f must have {order} entries along its last axis, got shape {f.shape}")
    return f


def _irrep(matrices, kind: str) -> Irrep:
    # Rounding leaves -1 = exp(i pi) an imaginary part.
    return Irrep(jnp.asarray(np.real(matrices) if kind == "real" else matrices, complex), kind)


def _group(table, irreps) -> Group:
    return Group(jnp.asarray(table), tuple(irreps))


def _twisted_table(k, flipped, turns: int, square: int):
    """Products of a^k x^e with x a = x / a, a^turns = 1 and x^2 = a^square."""
    power = k[:, None] + np.where(flipped[:, None] == 1, -k, k) + square * flipped[:, None] * flipped
    return power % turns + turns * (flipped[:, None] ^ flipped)


def _signs(even: bool):
    """One-dimensional real irreps a^k x^e -> +-1; a -> -1 is one only if `even`."""
    yield lambda k, e: np.ones(len(k))
    yield lambda k, e: (-1.0) ** e
    if even:
        yield lambda k, e: (-1.0) ** k
        yield lambda k, e: (-1.0) ** (k + e)


def _planar(angle: float, k, flipped):
    """a -> rotation by `angle`, x -> diag(1, -1)."""
    c, s = np.cos(angle * k), np.sin(angle * k)
    turned = np.stack([c, -s, s, c], axis=-1).reshape(-1, 2, 2)
    return np.where(flipped[:, None, None] == 1, turned @ np.diag([1.0, -1.0]), turned)


def _kron(first, second):
    """Kronecker products of the matrices of all pairs of elements."""
    size = first.shape[-1] * second.shape[-1]
    return np.einsum("gij,hkl->ghikjl", first, second).reshape(-1, size, size)
