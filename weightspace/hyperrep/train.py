"""Train a hyper-representation: one loop for every method of the family."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from weightspace.config import BadInput
from weightspace.hyperrep.batch_size import settle_batch_size
from weightspace.hyperrep.batches import STREAM_INIT, Batch, Batching, Pool, Source, seed_stream
from weightspace.hyperrep.behaviour import build_behaviour
from weightspace.hyperrep.config import HyperrepConfig, Sizes, TrainingConfig
from weightspace.hyperrep.criterion import Criterion, build_criterion, measure_losses, scale_terms
from weightspace.hyperrep.hyperrep import Hyperrep, digest_tensors, tell_origin
from weightspace.hyperrep.learner import Learn, build_learner
from weightspace.hyperrep.loss import measure_spreads
from weightspace.hyperrep.mixture import Part, draw_step, gather_parts, look_at_zoos, weigh_looks
from weightspace.hyperrep.model import Autoencoder, initialize_parameters
from weightspace.hyperrep.principal import MOST_NETWORKS, start_at_principal
from weightspace.hyperrep.ranks import ALONE, Ranks
from weightspace.hyperrep.schedule import find_rate
from weightspace.hyperrep.state import Note, Progress, read_state, write_state
from weightspace.images.image_set import ImageSet
from weightspace.record import digest_with_code
from weightspace.store import name_layout
from weightspace.tokens.tokenizer import Tokenizer, build_tokenizers
from weightspace.tokens.windows import check_window
from weightspace.weights.statistics import Statistics

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """What training leaves."""

    hyperreps: dict[str, Hyperrep]
    """By layout; with the model as it served the validation members best."""
    untrained_model: Autoencoder
    """As it was before its first step."""
    last_model: Autoencoder
    """As it was after its last step."""
    history: pd.DataFrame
    """One row a validation: `epoch` (passes over the train checkpoints), `step`, `lr` and the loss terms as `train_*`
    (mean since the row before) and `val_*`; of several zoos, also `val_*_<zoo>`."""

    @property
    def config(self) -> HyperrepConfig:
        """The configuration, with a number for a batch size that was to be found."""
        return next(iter(self.hyperreps.values())).config

    @property
    def hyperrep(self) -> Hyperrep:
        """The hyper-representation of the only layout."""
        (only,) = self.hyperreps.values()
        return only

    @property
    def untrained(self) -> Hyperrep:
        """The hyper-representation of the only layout, as it was before its first step."""
        return replace(self.hyperrep, model=self.untrained_model)


@dataclass(frozen=True)
class Run:
    """What one training works with."""

    config: HyperrepConfig
    """With a number for a batch size that was to be found."""
    parts: tuple[Part, ...]
    """What is learned from, layout by layout."""
    val_batches: dict[str, list[Batch]]
    """By zoo."""
    val_shares: dict[str, float]
    """How much each zoo counts in what is said of all."""
    model: Autoencoder
    criterion: Criterion
    learner: Learn
    optimizer: torch.optim.Optimizer
    progress: Progress
    device: torch.device
    ranks: Ranks

    @property
    def batching(self) -> Batching:
        """How networks of the first layout become batches."""
        return self.parts[0].batching

    @property
    def pool(self) -> Pool:
        """Train networks of the first layout."""
        return self.parts[0].pool

    @property
    def num_networks(self) -> int:
        """Count the train checkpoints."""
        return sum(part.pool.num_networks for part in self.parts)


def measure_sizes(tokenizers: Sequence[Tokenizer], config: HyperrepConfig) -> Sizes:
    """Say what the layouts fix beyond the configuration.

    Raises:
        BadInput: the window is longer than every sequence, or the heads do not divide the width.
    """
    if config.model.d_model % config.model.num_heads:
        raise BadInput(f"model.num_heads: got {config.model.num_heads}, wanted a divisor of {config.model.d_model}")
    longest = max(one.num_tokens for one in tokenizers)
    window = longest if config.window == "whole" else config.window
    check_window(longest, window)
    ends = torch.stack([one.positions.max(0).values + 1 for one in tokenizers])
    n, layers, k = ends.max(0).values.tolist()
    return Sizes(d_token=tokenizers[0].d_token, window=window, num_positions=(n, layers, k))


def build_model(
    config: HyperrepConfig, sizes: Sizes, parts: Sequence[Part], spreads: Float[Tensor, "layouts layers"] | None
) -> Autoencoder:
    """Build the autoencoder as it is before its first step."""
    model = Autoencoder(config.model, sizes)
    initialize_parameters(model, seed_stream(config.training.seed, STREAM_INIT))
    if config.model.linear_path == "principal":
        start_at_principal(model, parts, config.loss, spreads)
    return model


def build_optimizer(model: Autoencoder, rules: TrainingConfig) -> torch.optim.AdamW:
    """Build AdamW; vectors and biases do not decay."""
    parameters = list(model.parameters())
    decayed = [p for p in parameters if p.ndim >= 2]
    kept = [p for p in parameters if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": rules.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rules.lr, fused=True)


def name_layouts(data: Source | Mapping[str, Source]) -> dict[str, Source]:
    """Name the layout of each part of a weight data set."""
    return dict(data) if isinstance(data, Mapping) else {name_layout(data.about): data}


def check_layouts(data: Mapping[str, Source], config: HyperrepConfig) -> None:
    """Refuse what works with networks of one layout only, where there are several.

    Raises:
        BadInput: naming the key.
    """
    if len(data) == 1:
        return
    several, latent = f"networks of several layouts, {', '.join(data)}", config.model.latent
    if config.loss.behaviour.kind != "none":
        raise BadInput(f"loss.behaviour: got {config.loss.behaviour.kind!r} with {several}; wanted kind none")
    if latent.kind == "network" and latent.compression == "flatten":
        raise BadInput(f"model.latent.compression: got 'flatten' with {several}; wanted token or average")
    if latent.kind == "network" and latent.expansion == "linear":
        raise BadInput(f"model.latent.expansion: got 'linear' with {several}; wanted repeat")


def measure_all_spreads(parts: Sequence[Part], num_layers: int) -> Float[Tensor, "layouts layers"]:
    """Measure the spread of each layer of each layout; 1 where a layout has no more layers."""
    spreads = torch.ones(len(parts), num_layers)
    for row, part in zip(spreads, parts, strict=True):
        found = measure_spreads(part.source.layout, part.pool.take(part.pool.thin_out(MOST_NETWORKS)))
        row[: len(found)] = found
    return spreads


def prepare_run(
    data: Source | Mapping[str, Source],
    config: HyperrepConfig,
    device: torch.device,
    images: ImageSet | None = None,
    ranks: Ranks = ALONE,
    scratch: Path | None = None,
) -> Run:
    """Gather what a training needs, as it is before its first step."""
    data = name_layouts(data)
    check_layouts(data, config)
    tokenizers = build_tokenizers({name: source.layout for name, source in data.items()}, config.tokens)
    sizes = measure_sizes([*tokenizers.values()], config)
    parts = gather_parts(data, config, tokenizers, sizes.window)
    first = parts[0]
    spreads = measure_all_spreads(parts, sizes.num_positions[1]) if config.loss.normalization == "spread" else None
    model = build_model(config, sizes, parts, spreads).to(device)
    pools = first.pool, first.val_pool
    behaviour = build_behaviour(first.source, config, first.batching.tokenizer, images, pools, device)
    spreads = None if spreads is None else spreads.to(device)
    criterion = build_criterion(config.loss, behaviour, spreads, config.training.seed)
    config = settle_batch_size(config, parts, model, criterion, device, scratch)
    rules = config.training
    if config.loss.scale == "first_step":
        criterion = scale_terms(criterion, model, draw_step(parts, rules, 0).to(device))
    learner, optimizer = build_learner(model, criterion, rules, ranks), build_optimizer(model, rules)
    looks = look_at_zoos(parts, rules)
    shares, progress = weigh_looks(parts, looks), Progress()
    return Run(config, parts, looks, shares, model, criterion, learner, optimizer, progress, device, ranks)


def take_step(run: Run) -> Float[Tensor, " terms"]:
    """Learn from the batch of the next step; return its loss terms."""
    rules, step = run.config.training, run.progress.step
    batch = run.ranks.share(draw_step(run.parts, rules, step))
    for group in run.optimizer.param_groups:
        group["lr"] = find_rate(step, rules)
    losses = run.learner(batch.to(run.device), step)
    run.optimizer.zero_grad(set_to_none=True)
    losses["loss"].backward()
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), rules.clip)
    run.optimizer.step()
    run.progress.step += 1
    return torch.stack([losses[term].detach() for term in run.criterion.terms])


@torch.no_grad()
def validate_zoos(run: Run) -> dict[str, Float[Tensor, " terms"]]:
    """Measure the loss terms on validation members of each zoo, each network counting the same."""
    found: dict[str, Tensor] = {}
    for zoo, batches in run.val_batches.items():
        sums = torch.zeros(len(run.criterion.terms), device=run.device)
        for batch in batches[run.ranks.rank :: run.ranks.num]:
            losses = measure_losses(run.model, batch.to(run.device), run.criterion, None)
            sums += torch.stack([losses[term] for term in run.criterion.terms]) * len(batch.inputs)
        found[zoo] = run.ranks.add(sums) / sum(len(batch.inputs) for batch in batches)
    return found


def weigh_terms(run: Run, found: Mapping[str, Float[Tensor, " terms"]]) -> Float[Tensor, " terms"]:
    """Say of all zoos what was measured of each: they count as often as they are drawn in training."""
    parts = [share * found[zoo] for zoo, share in run.val_shares.items() if share]
    return torch.stack(parts).sum(0)


def validate(run: Run) -> Float[Tensor, " terms"]:
    """Measure the loss terms on validation members."""
    return weigh_terms(run, validate_zoos(run))


def note_validation(run: Run, train_terms: Float[Tensor, " terms"]) -> dict[str, float]:
    """Validate, add a row to the history, and keep the model if validation members say that it is the best so far."""
    progress, rules = run.progress, run.config.training
    seen = progress.step * min(rules.num_networks, run.num_networks)
    row = {"epoch": seen / run.num_networks, "step": progress.step, "lr": find_rate(progress.step - 1, rules)}
    zoos = validate_zoos(run)
    sides = [("train_{}", train_terms), ("val_{}", weigh_terms(run, zoos))]
    if len(zoos) > 1:
        sides += [(f"val_{{}}_{zoo}", terms) for zoo, terms in zoos.items()]
    for column, terms in sides:
        row |= {column.format(term): value for term, value in zip(run.criterion.terms, terms.tolist(), strict=True)}
    progress.history.append(row)
    progress.stale += 1
    score = row[f"val_{rules.keep_best}"]
    if score < progress.best_score:
        progress.best_score, progress.stale = score, 0
        progress.best = {name: value.detach().clone() for name, value in run.model.state_dict().items()}
    return row


def log_row(run: Run, row: dict[str, float], started_s: float, started_step: int) -> None:
    """Say how training goes: losses, speed and the time left at most."""
    rules, step = run.config.training, run.progress.step
    step_s = (time.monotonic() - started_s) / max(step - started_step, 1)
    log.info(
        "hyperrep: step %d of %d, reconstruction %.4f train, %.4f val%s; %.0f networks/s, at most %.0f s left",
        step,
        rules.steps,
        row["train_reconstruction"],
        row["val_reconstruction"],
        " (best)" if run.progress.stale == 0 else "",
        rules.num_networks / step_s,
        (rules.steps - step) * step_s,
    )


def learn(run: Run, scratch: Path | None, note: Note | None = None) -> None:
    """Take steps until the schedule ends or validation has long not improved; keep the state at each validation."""
    rules, progress = run.config.training, run.progress
    started_s, started_step = time.monotonic(), progress.step
    terms: list[Tensor] = []
    while progress.step < rules.steps and progress.stale < rules.patience:
        terms.append(take_step(run))
        if progress.step % rules.validate_every and progress.step < rules.steps:
            continue
        row = note_validation(run, run.ranks.add(torch.stack(terms).mean(0)) / run.ranks.num)
        terms.clear()
        if not math.isfinite(row["train_loss"]):
            raise BadInput(f"training: the loss is {row['train_loss']} at step {progress.step}; try a smaller lr")
        if run.ranks.rank > 0:
            continue
        log_row(run, row, started_s, started_step)
        if scratch is not None and note is not None:
            write_state(scratch, run.model, run.optimizer, progress, note)


def note_origin(run: Run, config: HyperrepConfig) -> Note:
    """Say what a training follows from."""
    sources = [part.source for part in run.parts]
    said = config.model_dump(mode="json", exclude={"device"}) | {
        "layouts": [source.layout.model_dump(mode="json") for source in sources],
        "preprocessing": [digest_tensors(s.statistics.mean, s.statistics.std, s.reference) for s in sources],
    }
    return Note(digest_with_code(said), run.config.training.num_networks)


def train_hyperrep(
    data: Source | Mapping[str, Source],
    config: HyperrepConfig,
    scratch: Path | None,
    device: torch.device,
    images: ImageSet | None = None,
    ranks: Ranks = ALONE,
) -> Trained:
    """Train an autoencoder on the train members of a weight data set; keep it as it served the val members best.

    Args:
        data: of several layouts, the part of each by its name.
        scratch: folder for the state from which a killed training goes on to the same end; None keeps none.
        images: what the networks were trained on, of which the loss sees the training images; needed only where it
            runs networks.
        ranks: of several processes that all call this, each working on its share of every batch.

    Raises:
        BadInput: the window or the heads do not fit, no checkpoint is of the epochs wanted, the networks cannot be run
            on the images, the state in `scratch` is of another training, or the loss diverges.
    """
    data = name_layouts(data)
    run = prepare_run(data, config, device, images, ranks, scratch)
    untrained, note = deepcopy(run.model).eval(), note_origin(run, config)
    if scratch is not None:
        read_state(scratch, run.model, run.optimizer, run.progress, note)
    learn(run, scratch, note)
    if not run.progress.best:
        term = f"val_{config.training.keep_best}"
        raise BadInput(f"training: {term} was not finite at any of {len(run.progress.history)} validations; see lr")
    last = deepcopy(run.model).eval()
    run.model.load_state_dict(run.progress.best)
    hyperreps = {name: build_hyperrep(run, part) for name, part in zip(data, run.parts, strict=True)}
    return Trained(hyperreps, untrained, last, pd.DataFrame(run.progress.history))


def build_hyperrep(run: Run, part: Part) -> Hyperrep:
    """Put the model together with what goes with the networks of one layout."""
    source, device = part.source, run.device
    statistics = Statistics(source.statistics.mean.to(device), source.statistics.std.to(device))
    activations = source.table["activation"].dropna().unique().tolist() if "activation" in source.table else []
    return Hyperrep(
        run.config,
        run.model.eval(),
        part.batching.tokenizer,
        statistics,
        source.reference.to(device),
        tell_origin(source.about),
        source.about.get("architecture"),
        tuple(sorted(activations)),
    )
