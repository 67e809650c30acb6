"""Hyper-representations: the training loop against the published design of 2021, and against the machine's peak.

Both loops train the same model (`presets`, E_cD of 2021) on the same made-up weights in the layout of CNN-s: loading,
views, both directions and the optimizer's step. They take turns; a ratio is that of two neighbouring turns, and the
median over turns counts. What the published design does differently is in `Published`: each network of a batch is
permuted by itself through lists of indices, each neuron is embedded by itself, NT-Xent compares all pairs of views by
broadcasting, and attention, norms and dropout are written out, as they were before torch had kernels for them. A second
ratio, `train_over_2021_blocks`, leaves the last of these out: both loops then run our blocks.

Source: HSG-AIML/NeurIPS_2021-Weight_Space_Learning, described in words; nothing is copied.
"""

import random
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from weightspace.hyperrep.config import HyperrepConfig, ModelConfig
from weightspace.hyperrep.model import Transformer
from weightspace.hyperrep.presets import SizeName, build_preset
from weightspace.hyperrep.train import Run, prepare_run, take_step
from weightspace.layout import Layout
from weightspace.networks import build_cnn_s, build_layout
from weightspace.store import Checkpoints
from weightspace.tokens.views import ERASED
from weightspace.weights.permute import draw_permutations, index_permutations, permute_weights
from weightspace.weights.statistics import Statistics
from weightspace.weights.weight_data import WeightData

LAYOUT = build_layout(build_cnn_s())
MEMBERS, SEED = 160, 0
BATCH: dict[SizeName, int] = {"published": 16, "small": 64}
"""Networks in a step, each with two views; the published 500 take too long for a benchmark on few cores."""
TURNS: dict[SizeName, int] = {"published": 4, "small": 7}
STEPS: dict[SizeName, int] = {"published": 1, "small": 4}
"""Steps of a turn."""
LISTS = 200
"""Permutations that the published design draws from here; it has 25,000, and is slower the more there are."""
LOOPS = {"loop": "published design", "blocks": "published, with our blocks"}
"""What ours is compared with."""
CPU = torch.device("cpu")


def measure() -> dict[str, float]:
    """Measure every figure, and print a table of them."""
    figures: dict[str, float] = {}
    peak = measure_peak()
    print(f"{torch.get_num_threads()} threads; float32 matrix products reach {peak / 1e9:,.0f} GFLOP/s\n")
    print(f"{'size':<10} {'loop':<28} {'ms a step':>10} {'ours over it':>24}")
    for name in BATCH:
        end = "" if name == "published" else f"_{name}"
        ours, loops = time_loops(name)
        print(f"{name:<10} {'ours':<28} {1e3 * np.median(ours):>10,.0f}")
        for loop, theirs in loops.items():
            ratios = np.array(theirs) / np.array(ours)
            spread = f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"
            print(f"{name:<10} {LOOPS[loop]:<28} {1e3 * np.median(theirs):>10,.0f} {spread:>24}")
            figures[f"train_over_2021_{loop}{end}"] = float(np.median(ratios))
        views = 2 * BATCH[name] * sum(place.shape[0] for place in LAYOUT.places if place.kind != "bias")
        figures[f"tokens_per_s{end}"] = views / float(np.median(ours))
        figures[f"peak_fraction{end}"] = count_flops(name) / float(np.median(ours)) / peak
    figures["permutations_25000_over_10"] = compare_permutations()
    print()
    for name, value in figures.items():
        print(f"{name:<28} {value:>12,.2f}")
    return figures


def make_config(name: SizeName) -> HyperrepConfig:
    """Take the published method, of a batch that few cores can do."""
    preset = build_preset("ecd_2021", name, "w")
    return preset.model_copy(update={"training": preset.training.model_copy(update={"batch_size": BATCH[name]})})


def make_data() -> WeightData:
    """Make up weights: what they are does not change the time."""
    generator = np.random.default_rng(SEED)
    table = pd.DataFrame({"member": [f"m{i:04d}" for i in range(MEMBERS)], "epoch": 0, "diverged": False})
    table["split"] = ["val" if i % 10 == 0 else "train" for i in range(MEMBERS)]
    weights = generator.standard_normal((MEMBERS, LAYOUT.num_weights), dtype=np.float32)
    ones = torch.ones(len(LAYOUT.places))
    return WeightData(Checkpoints(LAYOUT, table, weights), Statistics(0 * ones, ones), torch.from_numpy(weights[0]))


def time_loops(name: SizeName) -> tuple[list[float], dict[str, list[float]]]:
    """Time a step of our loop and of the others in turns, in seconds."""
    torch.manual_seed(SEED)
    ours = prepare_run(make_data(), make_config(name), CPU)
    others = {loop: Published(prepare_run(make_data(), make_config(name), CPU), loop == "loop") for loop in LOOPS}
    loops: dict[str, Callable[[], object]] = {"ours": partial(take_step, ours)}
    loops |= {loop: other.take_step for loop, other in others.items()}
    seconds: dict[str, list[float]] = {loop: [] for loop in loops}
    for turn in range(TURNS[name] + 1):
        for loop, step in loops.items():
            start = time.perf_counter()
            for _ in range(STEPS[name]):
                step()
            if turn:  # the first warms up
                seconds[loop].append((time.perf_counter() - start) / STEPS[name])
    return seconds.pop("ours"), seconds


def count_flops(name: SizeName) -> int:
    """Count the operations of matrix products in one step of our loop."""
    run = prepare_run(make_data(), make_config(name), CPU)
    with FlopCounterMode(display=False) as counter:
        take_step(run)
    return counter.get_total_flops()


def measure_peak() -> float:
    """Measure float32 operations per second of large matrix products, on all threads; the best of many."""
    a, b = torch.randn(2, 1024, 1024)
    best = 0.0
    for _ in range(20):
        start = time.perf_counter()
        torch.mm(a, b)
        best = max(best, 2 * len(a) ** 3 / (time.perf_counter() - start))
    return best


def compare_permutations() -> float:
    """Return how much longer views take if each is drawn among 25,000 permutations, against ten; 1: no longer.

    Ours are drawn anew for each view, whatever their number; the ten are drawn once and chosen from.
    """
    generator = torch.Generator().manual_seed(SEED)
    weights = torch.randn(64, LAYOUT.num_weights, generator=generator)
    ten = draw_permutations(LAYOUT, 10, generator)

    def choose() -> Tensor:
        picks = torch.randint(10, (len(weights),), generator=generator)
        return permute_weights(LAYOUT, weights, {name: order[picks] for name, order in ten.items()})

    def draw() -> Tensor:
        return permute_weights(LAYOUT, weights, draw_permutations(LAYOUT, len(weights), generator))

    ratios: list[float] = []
    for _ in range(51):
        start = time.perf_counter()
        choose()
        middle = time.perf_counter()
        draw()
        ratios.append((time.perf_counter() - middle) / (middle - start))
    return float(np.median(ratios))


def list_neurons(layout: Layout) -> list[tuple[int, list[int]]]:
    """List for each neuron its layer and the places of its incoming weights and bias in the weight vector."""
    neurons: list[tuple[int, list[int]]] = []
    for layer in range(layout.num_layers):
        weight, bias = layout.layer_places(layer)
        width = weight.size // weight.shape[0]
        for unit in range(weight.shape[0]):
            first = weight.offset + unit * width
            neurons.append((layer, [*range(first, first + width), bias.offset + unit]))
    return neurons


class NeuronEmbedder(nn.Module):
    """Embeds each neuron by itself, with a linear map for each layer."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.neurons = list_neurons(LAYOUT)
        widths = {layer: len(places) for layer, places in self.neurons}
        self.maps = nn.ModuleList(nn.Linear(width, d_model) for width in widths.values())

    def forward(self, weights: Tensor) -> Tensor:
        """Turn weight vectors into tokens of the transformer's width."""
        return torch.stack([self.maps[layer](weights[:, places]) for layer, places in self.neurons], dim=1)


class NeuronDebedder(nn.Module):
    """Gives each neuron its weights back by itself."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.neurons = list_neurons(LAYOUT)
        widths = {layer: len(places) for layer, places in self.neurons}
        self.maps = nn.ModuleList(nn.Linear(d_model, width) for width in widths.values())

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn tokens into weight vectors."""
        out = tokens.new_zeros(len(tokens), LAYOUT.num_weights)
        for number, (layer, places) in enumerate(self.neurons):
            out[:, places] = self.maps[layer](tokens[:, number])
        return out


class PublishedNorm(nn.Module):
    """Norm by the unbiased standard deviation."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(d_model)), nn.Parameter(torch.zeros(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift what has mean 0 and spread 1."""
        mean, spread = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
        return self.scale * (x - mean) / (spread + 1e-6) + self.shift


class PublishedAttention(nn.Module):
    """Attention of several heads from four linear maps and a softmax."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.query, self.key, self.value, self.attended = (nn.Linear(config.d_model, config.d_model) for _ in range(4))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Let tokens see each other."""
        maps = (self.query, self.key, self.value)
        query, key, value = (map_(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for map_ in maps)
        scores = torch.matmul(query, key.transpose(-2, -1)) / query.shape[-1] ** 0.5
        mixed = torch.matmul(self.dropout(torch.softmax(scores, dim=-1)), value)
        return self.attended(mixed.transpose(1, 2).contiguous().flatten(2))


class PublishedBlock(nn.Module):
    """Pre-norm transformer block of 2021."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d_model, d_feedforward, share = config.d_model, config.d_feedforward, config.dropout
        self.norm_attention, self.norm_mlp = PublishedNorm(d_model), PublishedNorm(d_model)
        self.attention = PublishedAttention(config)
        widen, narrow = nn.Linear(d_model, d_feedforward), nn.Linear(d_feedforward, d_model)
        self.mlp = nn.Sequential(widen, nn.ReLU(), nn.Dropout(share), narrow)
        self.drop_attention, self.drop_mlp = nn.Dropout(share), nn.Dropout(share)

    def forward(self, x: Tensor, visible: None) -> Tensor:
        """Let tokens see each other, then work on each."""
        x = x + self.drop_attention(self.attention(self.norm_attention(x)))
        return x + self.drop_mlp(self.mlp(self.norm_mlp(x)))


class PublishedModel(nn.Module):
    """Our model with tokens made, and taken apart, neuron by neuron, and with blocks of 2021 if these are asked for."""

    def __init__(self, run: Run, blocks: bool) -> None:
        super().__init__()
        self.positions = run.batching.tokenizer.positions
        config = run.config.model
        self.embedder, self.debedder = NeuronEmbedder(config.d_model), NeuronDebedder(config.d_model)
        self.inner, self.published_blocks = run.model, blocks
        if blocks:
            for transformer in (self.inner.encoder, self.inner.decoder):
                transformer.blocks = nn.ModuleList(PublishedBlock(config) for _ in transformer.blocks)

    def forward(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reconstruction, and what the contrast compares."""
        seen = self.run_blocks(self.inner.encoder, self.embedder(weights))
        latents = self.inner.to_latent(seen[:, 0])
        tokens = self.run_blocks(self.inner.decoder, self.inner.decoder.embed(latents.unsqueeze(1)))
        return self.debedder(tokens), self.inner.projection(latents)

    def run_blocks(self, transformer: Transformer, x: Tensor) -> Tensor:
        """Run a transformer on what is embedded already."""
        x = x + transformer.positions(self.positions)
        x = x if transformer.class_token is None else transformer.class_token(x)
        for block in transformer.blocks:
            x = block(x, None)
        return x if self.published_blocks else transformer.norm(x)


class Published:
    """The training loop of 2021."""

    def __init__(self, run: Run, blocks: bool) -> None:
        self.config, self.pool = run.config, run.pool.take(run.pool.thin_out(2**20))
        self.model = PublishedModel(run, blocks).train()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4, weight_decay=1e-9)
        self.random = random.Random(SEED)
        orders = draw_permutations(LAYOUT, LISTS, torch.Generator().manual_seed(SEED))
        self.lists: list[list[int]] = index_permutations(LAYOUT, orders).tolist()

    def make_view(self, weights: Tensor) -> Tensor:
        """Permute one network by a list of indices, and set a block to zero half of the time."""
        view = weights[self.lists[self.random.choice(list(range(LISTS)))]].clone()
        if self.random.random() < self.config.views.erase:
            length = int(self.random.uniform(*ERASED) * len(view))
            start = self.random.randrange(len(view) - length + 1)
            view[start : start + length] = 0
        return view

    def load_batch(self) -> Tensor:
        """Make the views of a batch one network after the other."""
        rows = self.random.sample(range(len(self.pool)), self.config.training.num_networks)
        pairs = [(self.make_view(self.pool[row]), self.make_view(self.pool[row])) for row in rows]
        return torch.cat([torch.stack([pair[i] for pair in pairs]) for i in range(2)])

    def measure_contrast(self, projections: Tensor) -> Tensor:
        """Compare all pairs of views by broadcasting them against each other."""
        num = len(projections)
        similarity = F.cosine_similarity(projections.unsqueeze(1), projections.unsqueeze(0), dim=2)
        similarity = similarity / self.config.loss.temperature
        other = torch.arange(num).roll(num // 2)
        positives = similarity[torch.arange(num), other]
        strangers = ~torch.eye(num, dtype=torch.bool)
        return -(positives - (similarity.exp() * strangers).sum(1).log()).mean()

    def take_step(self) -> None:
        """Learn from one batch."""
        weights = self.load_batch()
        output, projections = self.model(weights)
        share = self.config.loss.contrast_weight
        loss = share * self.measure_contrast(projections) + (1 - share) * F.mse_loss(output, weights)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
