"""Any network less what it said at its start, so that training begins at zero."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Centred(eqx.Module):
    """f(x) - f_0(x): the tangent kernel of the network, without the outputs of its start, which gets no gradient."""

    network: Any
    start: Any

    def __call__(self, x: Float[Array, "*P d"]) -> Float[Array, "*P C"]:
        """Outputs on inputs as the network takes them."""
        return self.network(x) - jax.lax.stop_gradient(self.start)(x)

    def moved(self) -> Float[Array, ""]:
        """|theta - theta_0|^2."""
        changes = jax.tree.map(lambda a, b: jnp.sum((a - jax.lax.stop_gradient(b)) ** 2), self.network, self.start)
        return sum(jax.tree.leaves(changes))


def centred(network: Any) -> Centred:
    """`network`, centred at its present parameters."""
    # Copies: an optimiser that updates arrays in place must not move the start with the network.
    return Centred(network, jax.tree.map(lambda w: w + 0.0, network))
