"""A network replaced by its tangent at the start: linear in its parameters, nonlinear in its inputs."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree


class Linearised(eqx.Module):
    """f(theta_0, x) + J(x) (theta - theta_0): `start` holds theta_0 and stays, `displacement` is what is trained."""

    start: Any
    displacement: Any

    def __call__(self, x: Any) -> Any:
        """Outputs for inputs as the network takes them."""
        trained, rest = eqx.partition(jax.lax.stop_gradient(self.start), eqx.is_inexact_array)
        values, changes = jax.jvp(lambda t: eqx.combine(t, rest)(x), (trained,), (self.displacement,))
        return values + changes

    def network(self) -> Any:
        """The network itself at the parameters that its tangent has reached: where the two differ, it is not lazy."""
        return eqx.apply_updates(self.start, self.displacement)


def linearised(network: Any, displacement: Any = None) -> Linearised:
    """The tangent of a network, an Equinox Module whose arrays are its parameters, at them or displaced from them."""
    if displacement is None:
        displacement = jax.tree.map(jnp.zeros_like, network)
    return Linearised(network, eqx.filter(displacement, eqx.is_inexact_array))


def interpolating(network: Any, x: Any, y: jax.Array) -> Linearised:
    """The tangent of a network at the smallest displacement that fits `y` on `x`: where gradient descent ends on it.

    theta - theta_0 = J^T (J J^T)^+ (y - f_0), with J of as many rows as y has numbers. y has the shape of the outputs.
    """
    trained, rest = eqx.partition(network, eqx.is_inexact_array)
    theta, shaped = ravel_pytree(trained)

    def outputs(theta):
        return eqx.combine(shaped(theta), rest)(x).reshape(-1)

    missing = y.reshape(-1) - outputs(theta)
    return Linearised(network, shaped(jnp.linalg.lstsq(jax.jacrev(outputs)(theta), missing)[0]))
