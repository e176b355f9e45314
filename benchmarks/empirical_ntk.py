"""What the empirical NTK costs: our strategies against each other, neural-tangents' and PyTorch's recipe.

    python -m benchmarks.empirical_ntk [whole | scaling] [--peers FOLDER] [--keep]

neural-tangents 0.6.5 takes part on JAX 0.4.25, the newest on which all of its strategies work, and so does PyTorch,
where `python -m benchmarks` has installed them. All are ratios of CPU time from one run, taking turns, in float32.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from functools import partial

import jax
import numpy as np

from benchmarks.driver import console, run
from benchmarks.kept import Result, growth, point
from benchmarks.peer import Failed, leaves, peer
from benchmarks.timing import ratios_in_turns, timed
from sims.networks.mlp import MLP, mlp
from sims.networks.transformer import Transformer, transformer
from sims.probes.ntk import empirical_ntk, one_row

OURS = {"auto": "ours", "structured": "our structure", "jacobian": "our Jacobian"}
THEIRS = {
    "JACOBIAN_CONTRACTION": "neural-tangents' Jacobian",
    "STRUCTURED_DERIVATIVES": "neural-tangents' structure",
    "AUTO": "neural-tangents' choice",
}
TORCH = "PyTorch's recipe"
AIMS = {
    "MLP": {THEIRS["STRUCTURED_DERIVATIVES"]: 1.5, TORCH: 100.0, "our Jacobian": 1.0, "our structure": 0.9},
    "transformer": {THEIRS["AUTO"]: 2.0, TORCH: 1.2, "our Jacobian": 0.9, "our structure": 0.9},
}


def last_token(network: Transformer, tokens):
    """The logits at a sequence's end."""
    return one_row(network, tokens)[-1]


def perceptron(samples: int, width: int = 256) -> tuple:
    """Standard parametrisation: the plain layers whose structure every library sees."""
    x = jax.random.normal(jax.random.key(1), (samples, 32))
    return mlp(jax.random.key(0), (32, width, width, 10), 2.0, 0.1, parametrisation="standard"), x, one_row


def tied(sequences: int) -> tuple:
    """2 layers, 2 heads, width 32, on sequences of 8 tokens; the readout is the embedding."""
    tokens = jax.random.randint(jax.random.key(2), (sequences, 8), 0, 10)
    return transformer(jax.random.key(0), 10, 8, hidden=64), tokens, last_token


PROBLEMS = {"MLP": lambda: perceptron(64), "transformer": lambda: tied(32)}


def agree(entries, network, x, apply) -> None:
    """The peer's row of the kernel's entry (0, 1) is ours."""
    own = empirical_ntk(network, x[:2], apply=apply, strategy="jacobian")[0, :, 1]
    np.testing.assert_allclose(entries, np.ravel(own), rtol=1e-3, atol=1e-3 * float(np.abs(own).max()))


def whole(asked, peers: dict) -> list[Result]:
    """The whole kernel, all outputs against all, of two networks."""
    series: dict = {}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        tangents = stack.enter_context(peer(asked.peers, "neural-tangents-empirical", "neural_tangents_peer"))
        torch = stack.enter_context(peer(asked.peers, "torch", "torch_peer"))
        for other in (tangents, torch):
            peers |= other.versions if other else {}
        for name, build in PROBLEMS.items():
            network, x, apply = build()
            calls = {s: partial(empirical_ntk, network, x, apply=apply, strategy=s) for s in OURS}
            seconds = {label: timed(calls[s]) for s, label in OURS.items()}
            kind = "mlp" if isinstance(network, MLP) else "transformer"
            file = leaves(folder, kind, [*jax.tree.leaves(network), x])
            for implementation, label in THEIRS.items() if tangents else ():
                try:
                    found = tangents.call("empirical", network=kind, file=file, implementation=implementation)
                except Failed as error:
                    console.print(f"{label} does not do the {name}: {error}")
                    continue
                seconds[label] = found[0]
                agree(found[1], network, x, apply)
            if torch:
                names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(network)]
                seconds[TORCH], entries = torch.call("empirical", network=kind, file=file, names=names)
                agree(entries, network, x, apply)
            for label, each in ratios_in_turns(seconds, "ours", asked.rounds).items():
                series.setdefault(label, []).append(point(name, each, AIMS[name].get(label)))
    comment = (
        "MLP 32-256-256-10 on 64 samples; a tied transformer (2 layers, 2 heads, width 32) on 32 sequences of 8, whose "
        "layers are too narrow for their structure to save anything: what is left is one Jacobian and one product of "
        "matrices, which PyTorch and neural-tangents do as well. Where our choice is the strategy that it is compared "
        "with, the ratio is 1 but for noise, and its aim 0.9."
    )
    return [Result("The whole empirical kernel", "network", "CPU time over our choice", series, comment=comment)]


def scaling(asked, peers: dict) -> list[Result]:
    """Cost of the whole kernel against samples and width, by the strategies that are chosen."""

    def kernel(problem, strategy: str):
        network, x, apply = problem
        return partial(empirical_ntk, network, x, apply=apply, strategy=strategy)

    axes = {
        "samples, MLP": ((16, 32, 64, 128), lambda n: kernel(perceptron(n), "structured")),
        "width, MLP": ((64, 128, 256, 512), lambda n: kernel(perceptron(64, n), "structured")),
        "samples, transformer": ((8, 16, 32), lambda n: kernel(tied(n), "jacobian")),
    }
    return [growth("The whole empirical kernel: growth", "samples or width", axes, asked.rounds)]


def main() -> None:
    run("empirical_ntk", "Empirical tangent kernels", __doc__, dict(whole=whole, scaling=scaling))


if __name__ == "__main__":
    main()
