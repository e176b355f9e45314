"""Gated deep linear networks: gates, not activations, decide which linear pathways an example takes."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sims.networks.deep_linear import DeepLinear, semi_orthogonal


class Routing(eqx.Module):
    """M input and M output domains around one shared layer: the weights of each domain, and those between the two
    hidden layers."""

    into: Float[Array, "M hidden n_in"]
    shared: Float[Array, "hidden hidden"]
    out: Float[Array, "M n_out hidden"]

    def __call__(
        self, x: Float[Array, "n_in P"], gate_in: Float[Array, " M"], gate_out: Float[Array, " M"]
    ) -> Float[Array, "M n_out P"]:
        """Outputs of every domain for inputs in columns: gates say where they come in and where they may go out."""
        hidden = jnp.einsum("m,mhi,ip->hp", gate_in, self.into, x)
        return gate_out[:, None, None] * (self.out @ (self.shared @ hidden))

    def maps(self) -> Float[Array, "M M n_out n_in"]:
        """The map of every pair of domains, output domain first."""
        return jnp.einsum("moh,hk,nki->mnoi", self.out, self.shared, self.into)


def aligned_routing(
    key,
    left: Float[Array, "n_out k"],
    right: Float[Array, "n_in k"],
    layers: Float[Array, "3 k"],
    domains: int,
    hidden: int,
) -> Routing:
    """A start whose modes decouple: the same weights in every domain, layer l of strength `layers[l, i]` on mode i."""
    first, second = (semi_orthogonal(k, hidden, left.shape[1]) for k in jax.random.split(key))
    return Routing(
        jnp.stack([(first * layers[0]) @ right.T] * domains),
        (second * layers[1]) @ first.T,
        jnp.stack([(left * layers[2]) @ second.T] * domains),
    )


def orthogonal_routing(key, n_in: int, hidden: int, n_out: int, domains: int, scale) -> Routing:
    """Every weight matrix `scale` times a semi-orthogonal one of its own."""
    shared, into, out = jax.random.split(key, 3)
    return Routing(
        jnp.stack([scale * semi_orthogonal(k, hidden, n_in) for k in jax.random.split(into, domains)]),
        scale * semi_orthogonal(shared, hidden, hidden),
        jnp.stack([scale * semi_orthogonal(k, n_out, hidden) for k in jax.random.split(out, domains)]),
    )


def ring(domains: int, partners: int, of: int | None = None) -> Float[Array, "M M"]:
    """Which pairs (output domain, input domain) are trained: 1 or 0, `partners` next neighbours on a ring of domains.

    With `of` the ring is made of the first domains of so many; the others stay idle.
    """
    steps = (jnp.arange(domains)[:, None] - jnp.arange(domains)[None, :]) % domains
    return jnp.pad((steps < partners).astype(float), (0, (of or domains) - domains))


def routing_loss(
    network: Routing, x: Float[Array, "n_in P"], y: Float[Array, "n_out P"], trained: Float[Array, "M M"]
) -> Float[Array, ""]:
    """The base loss (1/2P) sum |y - yhat|^2, averaged over the trained pairs (output domain, input domain).

    Every pair is an example of its own: one input domain and one output domain are open, the others silent.
    """
    hidden = network.shared @ (network.into @ x)
    outputs = jnp.einsum("moh,nhp->mnop", network.out, hidden)
    errors = 0.5 * jnp.sum((y - outputs) ** 2, axis=(2, 3)) / x.shape[1]
    return jnp.sum(trained * errors) / jnp.sum(trained)


class SharedAndOwn(eqx.Module):
    """Two pathways in parallel: one for all contexts, and one for each context alone, of the same depth.

    `own[l]` has a leading axis of contexts.
    """

    shared: tuple[Float[Array, "_ _"], ...]
    own: tuple[Float[Array, "contexts _ _"], ...]

    def __call__(self, x: Float[Array, "n_in P"], gate: Float[Array, " contexts"]) -> Float[Array, "n_out P"]:
        """Outputs for inputs in columns, in the contexts whose gates are open."""
        alone = jnp.broadcast_to(x, (*gate.shape, *x.shape))
        for w in self.own:
            alone = w @ alone
        return DeepLinear(self.shared)(x) + jnp.einsum("c,cop->op", gate, alone)

    def products(self) -> tuple[Float[Array, "n_out n_in"], Float[Array, "contexts n_out n_in"]]:
        """The maps of the shared pathway and of each context's own."""
        own = self.own[0]
        for upper in self.own[1:]:
            own = upper @ own
        return DeepLinear(self.shared).product(), own


def aligned_pathways(
    key,
    left: Float[Array, "n_out k"],
    right: Float[Array, "n_in k"],
    strengths: Float[Array, "2 k"],
    contexts: int,
    hidden: int,
    depth: int,
) -> SharedAndOwn:
    """A balanced start whose modes decouple: products of `strengths` (shared, own) in random hidden directions."""

    def layers(key, products):
        frames = [right, *(semi_orthogonal(k, hidden, left.shape[1]) for k in jax.random.split(key, depth - 1)), left]
        return tuple((frames[i + 1] * products ** (1 / depth)) @ frames[i].T for i in range(depth))

    shared, *own = (layers(k, strengths[min(i, 1)]) for i, k in enumerate(jax.random.split(key, contexts + 1)))
    return SharedAndOwn(shared, tuple(jnp.stack(w) for w in zip(*own, strict=True)))


def contexts_loss(network: SharedAndOwn, x: Float[Array, "n_in P"], y: Float[Array, "n_out P"]) -> Float[Array, ""]:
    """The base loss (1/2P) sum |y - yhat|^2, averaged over contexts, one of which is open at a time."""
    gates = jnp.eye(network.own[0].shape[0])
    return jnp.mean(jax.vmap(lambda gate: 0.5 * jnp.sum((y - network(x, gate)) ** 2) / x.shape[1])(gates))
