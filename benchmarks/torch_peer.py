"""The peer's side of `benchmarks.peer` in PyTorch: training loops and a kernel as tutorials and scripts write them."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch.func import functional_call, grad, jacrev, stack_module_state, vmap

from benchmarks.serving import serve

torch.set_num_threads(1)


class Perceptron(torch.nn.Module):
    """Weights (outputs, inputs) and biases, ReLU between."""

    def __init__(self, leaves):
        super().__init__()
        half = len(leaves) // 2
        self.weights = torch.nn.ParameterList([torch.from_numpy(leaf) for leaf in leaves[:half]])
        self.biases = torch.nn.ParameterList([torch.from_numpy(leaf) for leaf in leaves[half:]])

    def forward(self, h):
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = (torch.relu(h) if i else h) @ w.T + b
        return h


class Transformer(torch.nn.Module):
    """Our transformer, from its parameters by name; the logits at a sequence's end."""

    def __init__(self, names, leaves):
        super().__init__()
        self.leaves = torch.nn.ParameterList([torch.from_numpy(leaf) for leaf in leaves])
        self.names = names

    def forward(self, tokens):
        now = dict(zip(self.names, self.leaves, strict=True))
        length, width = tokens.shape[-1], now[".embedding"].shape[1]
        blocks = {re.match(r"\.blocks\[(\d+)\]", name).group(0) for name in self.names if name.startswith(".blocks")}

        def norm(h):
            return torch.nn.functional.layer_norm(h, (width,), eps=1e-6)

        h = now[".embedding"][tokens] + now[".positions"][:length]
        past = torch.ones(length, length).tril().bool()
        for block in sorted(blocks):
            own = {name.rsplit(".")[-1]: w for name, w in now.items() if name.startswith(block)}
            normed = norm(h)
            query, key, value = (torch.einsum("ptd,hde->phte", normed, own[name]) for name in ("query", "key", "value"))
            scores = torch.einsum("phte,phse->phts", query, key) / query.shape[-1] ** 0.5
            pattern = torch.softmax(scores.masked_fill(~past, -torch.inf), -1)
            h = h + torch.einsum("phts,phse,hed->ptd", pattern, value, own["out"])
            h = h + torch.nn.functional.gelu(norm(h) @ own["up"], approximate="tanh") @ own["down"]
        return (norm(h) @ now[".embedding"].T)[:, -1]


def empirical(network, file, names):
    """The tutorial's recipe: vmapped jacrev, one einsum for each parameter; and the row of the kernel's first entry."""
    stored = np.load(file)
    *leaves, x = (stored[f"arr_{i}"] for i in range(len(stored.files)))
    module = Perceptron(leaves) if network == "mlp" else Transformer(names, leaves)
    parameters = {name: value.detach() for name, value in module.named_parameters()}
    samples = torch.from_numpy(x)

    def alone(parameters, sample):
        return functional_call(module, parameters, (sample[None],))[0]

    def kernel():
        jacobians = vmap(jacrev(alone), (None, 0))(parameters, samples)
        rows = [j.flatten(2) for j in jacobians.values()]
        return sum(torch.einsum("Naf,Mbf->NMab", j, j) for j in rows)

    return kernel, kernel()[0, 1].flatten().tolist()


def perceptron(inputs, width, samples, seed=0):
    """A two-layer tanh network, its samples, and its loss."""
    torch.manual_seed(seed)
    layers = torch.nn.Linear(inputs, width), torch.nn.Tanh(), torch.nn.Linear(width, 1)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(samples, inputs)).astype(np.float32))
    return torch.nn.Sequential(*layers), x, torch.sin(x[:, :1])


def training(inputs, width, samples, lr, steps):
    """A loop of `steps` steps of full-batch gradient descent; the loss before and after."""
    model, x, y = perceptron(inputs, width, samples)
    descent = torch.optim.SGD(model.parameters(), lr=lr)

    def loss():
        return 0.5 * ((model(x) - y) ** 2).mean()

    def loop():
        for _ in range(steps):
            descent.zero_grad()
            loss().backward()
            descent.step()

    before = float(loss())
    loop()
    return loop, [before, float(loss())]


def ensemble(inputs, width, samples, lr, steps, seeds):
    """The same for all seeds at once: torch.func's vmap of the gradient, in a loop of steps."""
    models = [perceptron(inputs, width, samples, seed) for seed in range(seeds)]
    (model, x, y), parameters = models[0], stack_module_state([each[0] for each in models])[0]
    slopes = vmap(grad(lambda p: 0.5 * ((functional_call(model, p, (x,)) - y) ** 2).mean()))

    def loop():
        now = {name: value.detach() for name, value in parameters.items()}
        for _ in range(steps):
            slope = slopes(now)
            now = {name: value - lr * slope[name] for name, value in now.items()}
        return now

    return loop, []


class PythonLoop:
    """Items and labels as published scripts draw them: one sequence after the other in NumPy."""

    def __init__(self, setting, batch, variation, seed=0):
        self.dimension, self.longest, self.context, self.labels, self.classes = setting
        self.rows, self.variation = batch, variation
        self.rng = np.random.default_rng(seed)
        scale = self.dimension**-0.5
        self.means = self.rng.normal(size=(self.classes, self.dimension)) * scale
        self.vectors = self.rng.normal(size=(self.labels, self.dimension)) * scale

    def exemplar(self, k):
        noise = self.rng.normal(size=self.dimension) / self.dimension**0.5
        return (self.means[k] + self.variation * noise) / np.sqrt(1 + self.variation**2)

    def batch(self):
        n, places = self.context, 2 * self.longest + 1
        inputs = np.zeros((self.rows, 2 * n + 1, places + self.dimension), np.float32)
        answers = np.zeros(self.rows, int)
        for row in range(self.rows):
            labels = self.rng.choice(self.labels, n, replace=False)
            classes = labels + self.labels * self.rng.integers(0, self.classes // self.labels, n)
            target = self.rng.integers(n)
            shift = self.rng.integers(places - 2 * n)
            inputs[row, np.arange(2 * n + 1), shift + np.arange(2 * n + 1)] = 1
            for i, k in enumerate(classes):
                inputs[row, 2 * i, places:] = self.exemplar(k)
                inputs[row, 2 * i + 1, places:] = self.vectors[labels[i]]
            inputs[row, -1, places:] = self.exemplar(classes[target])
            answers[row] = labels[target]
        return torch.from_numpy(inputs), torch.from_numpy(answers)


class AttentionOnly(torch.nn.Module):
    """Two layers of one head, three ReLU layers, as one writes it: all tokens in both layers."""

    def __init__(self, setting):
        super().__init__()
        dimension, longest, _, labels, _ = setting
        width = dimension + 2 * longest + 1
        self.weights = torch.nn.ParameterList([torch.randn(width, width) * width**-0.5 for _ in range(6)])
        hidden = [part for _ in range(3) for part in (torch.nn.Linear(width, width), torch.nn.ReLU())]
        self.classifier = torch.nn.Sequential(*hidden, torch.nn.Linear(width, labels, bias=False))

    def forward(self, u):
        length = u.shape[1]
        past = torch.tril(torch.ones(length, length, dtype=torch.bool))
        for q, k, v in (self.weights[:3], self.weights[3:]):
            scores = (u @ q.T) @ (u @ k.T).transpose(1, 2)
            pattern = torch.softmax(scores.masked_fill(~past, -torch.inf), dim=-1)
            u = u + pattern @ (u @ v.T)
        return self.classifier(u[:, -1])


def attention(setting, batch, variation, lr, steps, fresh):
    """`steps` steps of training, on fresh sequences or all on the same."""
    data, model = PythonLoop(setting, batch, variation), AttentionOnly(setting)
    descent = torch.optim.SGD(model.parameters(), lr=lr)
    same = data.batch()

    def loop():
        for _ in range(steps):
            u, y = data.batch() if fresh else same
            descent.zero_grad()
            torch.nn.functional.cross_entropy(model(u), y).backward()
            descent.step()

    return loop, []


def item_label_data(setting, batch, variation):
    """A batch of sequences."""
    return PythonLoop(setting, batch, variation).batch, []


if __name__ == "__main__":
    kinds = dict(empirical=empirical, training=training, ensemble=ensemble, attention=attention)
    serve({"PyTorch": torch.__version__}, kinds | {"item_label_data": item_label_data})
