"""What the empirical NTK costs: our strategies against each other, neural-tangents' and PyTorch's recipe.

    python -m benchmarks.empirical_ntk [--peer PYTHON]

PYTHON is the interpreter of an environment of its own that has neural-tangents and Equinox; all of its strategies work
with version 0.6.6 (from its repository) on JAX 0.4.38. PyTorch takes part if it is installed here. All figures are
ratios of CPU time from one run on one machine, taking turns, in float32.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.peer import Peer
from benchmarks.timing import least_seconds
from sims.networks.mlp import MLP, mlp
from sims.networks.transformer import Transformer, transformer
from sims.probes.ntk import empirical_ntk, one_row

console = Console(width=110)
STRATEGIES = ("auto", "structured", "jacobian")
PEERS = {"JACOBIAN_CONTRACTION": "jacobian", "STRUCTURED_DERIVATIVES": "structured", "AUTO": "auto"}
ROUNDS = 7


def last_token(network: Transformer, tokens):
    """The logits at a sequence's end."""
    return one_row(network, tokens)[-1]


def problems() -> dict:
    """Name -> network, samples, how the network is applied to one of them.

    An MLP 32-256-256-10 on 64 samples; a tied transformer of 2 layers, 2 heads, width 32, on 32 sequences of 8 tokens.
    """
    # Standard parametrisation: the plain layers whose structure every library sees.
    x, tokens = jax.random.normal(jax.random.key(1), (64, 32)), jax.random.randint(jax.random.key(2), (32, 8), 0, 10)
    plain = mlp(jax.random.key(0), (32, 256, 256, 10), 2.0, 0.1, parametrisation="standard")
    tied = transformer(jax.random.key(0), 10, 8, hidden=64)
    return {
        "MLP": (plain, x, one_row),
        "transformer": (tied, tokens, last_token),
    }


def in_torch(network: MLP | Transformer, x):
    """The tutorial's recipe on the same network: vmapped jacrev, one einsum for each parameter; None without torch."""
    try:
        import torch
        from torch.func import functional_call, jacrev, vmap
    except ImportError:
        return None
    # Threads that wait would count as CPU time.
    torch.set_num_threads(1)
    module = _torch_mlp(torch, network) if isinstance(network, MLP) else _torch_transformer(torch, network)
    parameters = {name: value.detach() for name, value in module.named_parameters()}
    samples = torch.from_numpy(np.array(x))

    def alone(parameters, sample):
        return functional_call(module, parameters, (sample[None],))[0]

    def kernel():
        jacobians = vmap(jacrev(alone), (None, 0))(parameters, samples)
        rows = [j.flatten(2) for j in jacobians.values()]
        return sum(torch.einsum("Naf,Mbf->NMab", j, j) for j in rows)

    return kernel


def _torch_mlp(torch, network: MLP):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = torch.nn.ParameterList([torch.from_numpy(np.array(w)) for w in network.weights])
            self.biases = torch.nn.ParameterList([torch.from_numpy(np.array(b)) for b in network.biases])

        def forward(self, h):
            for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
                h = torch.relu(h) if i else h
                h = network.weight_multipliers[i] * (h @ w.T) + network.bias_multipliers[i] * b
            return h

    return Net()


def _torch_transformer(torch, network: Transformer):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            names, leaves = zip(*jax.tree.leaves_with_path(network), strict=True)
            self.leaves = torch.nn.ParameterList([torch.from_numpy(np.array(leaf)) for leaf in leaves])
            self.names = [jax.tree_util.keystr(name) for name in names]

        def forward(self, tokens):
            now = dict(zip(self.names, self.leaves, strict=True))
            length, width = tokens.shape[-1], network.embedding.shape[1]

            def norm(h):
                return torch.nn.functional.layer_norm(h, (width,), eps=1e-6)

            h = now[".embedding"][tokens] + now[".positions"][:length]
            past = torch.ones(length, length).tril().bool()
            for i in range(len(network.blocks)):
                own = {name.rsplit(".")[-1]: w for name, w in now.items() if name.startswith(f".blocks[{i}]")}
                normed = norm(h)
                query, key, value = (
                    torch.einsum("ptd,hde->phte", normed, own[name]) for name in ("query", "key", "value")
                )
                scores = torch.einsum("phte,phse->phts", query, key) / query.shape[-1] ** 0.5
                pattern = torch.softmax(scores.masked_fill(~past, -torch.inf), -1)
                h = h + torch.einsum("phts,phse,hed->ptd", pattern, value, own["out"])
                h = h + torch.nn.functional.gelu(norm(h) @ own["up"], approximate="tanh") @ own["down"]
            return (norm(h) @ now[".embedding"].T)[:, -1]

    return Net()


def in_neural_tangents(peer: Peer, folder: str, network: MLP | Transformer, x) -> dict:
    """Strategy -> request of the peer's kernel on the same parameters and samples, checked against ours."""
    kind = "mlp" if isinstance(network, MLP) else "transformer"
    file = Path(folder) / f"{kind}.npz"
    np.savez(file, *(np.asarray(leaf) for leaf in jax.tree.leaves(network)), np.asarray(x))
    requests = {}
    for name, short in PEERS.items():
        requests[short] = dict(network=kind, file=str(file), implementation=name)
        entries = peer.ask("empirical", **requests[short])["corner"]
        apply = one_row if kind == "mlp" else last_token
        own = empirical_ntk(network, x[:2], apply=apply, strategy="jacobian")[0, :, 1]
        np.testing.assert_allclose(entries, np.ravel(own), rtol=1e-3, atol=1e-3 * float(np.abs(own).max()))
    return requests


def least_in_turns(calls: dict, peer: Peer | None, requests: dict) -> dict:
    """Least CPU seconds of one call of each, the peer's included."""
    best: dict = {}
    for _ in range(ROUNDS):
        seconds = least_seconds(calls, rounds=1)
        seconds |= {f"NT {s}": peer.ask("empirical", **request)["seconds"] for s, request in requests.items()}
        best = {name: min(best.get(name, np.inf), value) for name, value in seconds.items()}
    return best


def measured(network: MLP | Transformer, x, apply, peer: Peer | None, folder: str) -> tuple[dict, float]:
    """CPU seconds of each way, and the largest difference between their kernels relative to the largest entry."""
    calls = {s: partial(empirical_ntk, network, x, apply=apply, strategy=s) for s in STRATEGIES}
    found = {s: np.asarray(call()) for s, call in calls.items()}
    recipe = in_torch(network, x)
    if recipe is not None:
        calls["PyTorch"] = recipe
        found["PyTorch"] = recipe().detach().numpy().transpose(0, 2, 1, 3)
    requests = {} if peer is None else in_neural_tangents(peer, folder, network, x)
    reference = found["jacobian"]
    error = max(np.abs(kernel - reference).max() / np.abs(reference).max() for kernel in found.values())
    return least_in_turns(calls, peer, requests), error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="interpreter of an environment with neural-tangents and Equinox")
    options = parser.parse_args()
    peer = Peer(options.peer, "float32") if options.peer else None
    table = Table(title="Cost of the whole kernel, in units of our automatic choice", title_justify="left", box=None)
    names = [*STRATEGIES, "PyTorch", *(f"NT {short}" for short in PEERS.values())]
    for i, column in enumerate(("network", *names, "largest difference")):
        table.add_column(column, justify="left" if i == 0 else "right")
    with tempfile.TemporaryDirectory() as folder:
        for name, (network, x, apply) in problems().items():
            seconds, error = measured(network, x, apply, peer, folder)
            ratios = [f"{seconds[n] / seconds['auto']:.1f}" if n in seconds else "-" for n in names]
            table.add_row(name, *ratios, f"{error:.0e}")
    console.print(table)
    if peer is not None:
        console.print(f"NT: neural-tangents {peer.versions['neural_tangents']} on JAX {peer.versions['jax']}.")


if __name__ == "__main__":
    main()
