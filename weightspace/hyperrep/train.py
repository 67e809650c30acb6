"""Train a hyper-representation: one loop for every method of the family."""

import logging
import math
import time
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from weightspace.config import BadInput
from weightspace.hyperrep.batches import (
    STREAM_INIT,
    Batch,
    Batching,
    Pool,
    Source,
    draw_batch,
    draw_validation,
    gather_pool,
    seed_stream,
)
from weightspace.hyperrep.behaviour import build_behaviour
from weightspace.hyperrep.config import HyperrepConfig, Sizes, TrainingConfig
from weightspace.hyperrep.criterion import Criterion, build_criterion, measure_losses, scale_terms
from weightspace.hyperrep.hyperrep import Hyperrep, build_tokenizer, tell_origin
from weightspace.hyperrep.kinds import tell_kinds
from weightspace.hyperrep.learner import Learn, build_learner
from weightspace.hyperrep.loss import measure_spreads
from weightspace.hyperrep.model import Autoencoder, initialize_parameters
from weightspace.hyperrep.principal import MOST_NETWORKS, start_at_principal
from weightspace.hyperrep.ranks import ALONE, Ranks
from weightspace.hyperrep.state import Progress, read_state, write_state
from weightspace.images.image_set import ImageSet
from weightspace.tokens.tokenizer import Tokenizer
from weightspace.tokens.windows import check_window
from weightspace.weights.statistics import Statistics

log = logging.getLogger(__name__)
START_DIVISOR, END_DIVISOR = 25, 1e5
"""The learning rate starts and ends at its peak over these. Source: torch's OneCycleLR, as SANE's code uses it."""
HOLD_BYTES = 2**30
"""Training networks of no more weights than this are held in memory; others stay on disk, read batch by batch."""


@dataclass(frozen=True)
class Trained:
    """What training leaves."""

    hyperrep: Hyperrep
    """As it served the validation members best."""
    untrained: Hyperrep
    """As it was before its first step."""
    history: pd.DataFrame
    """One row a validation: `epoch` (passes over the train checkpoints), `step`, `lr` and the loss terms as `train_*`
    (mean since the row before) and `val_*`."""


@dataclass(frozen=True)
class Run:
    """What one training works with."""

    config: HyperrepConfig
    batching: Batching
    pool: Pool
    val_batches: list[Batch]
    model: Autoencoder
    criterion: Criterion
    learner: Learn
    optimizer: torch.optim.Optimizer
    progress: Progress
    device: torch.device
    ranks: Ranks


def measure_sizes(tokenizer: Tokenizer, config: HyperrepConfig) -> Sizes:
    """Say what the layout fixes beyond the configuration.

    Raises:
        BadInput: the window is longer than the sequence, or the heads do not divide the width.
    """
    if config.model.d_model % config.model.num_heads:
        raise BadInput(f"model.num_heads: got {config.model.num_heads}, wanted a divisor of {config.model.d_model}")
    window = tokenizer.num_tokens if config.window == "whole" else config.window
    check_window(tokenizer.num_tokens, window)
    n, layers, k = (tokenizer.positions.max(0).values + 1).tolist()
    return Sizes(d_token=tokenizer.d_token, window=window, num_positions=(n, layers, k))


def build_model(
    config: HyperrepConfig,
    sizes: Sizes,
    pool: Pool,
    tokenizer: Tokenizer,
    spreads: Float[Tensor, " layers"] | None,
) -> Autoencoder:
    """Build the autoencoder as it is before its first step."""
    model = Autoencoder(config.model, sizes)
    initialize_parameters(model, seed_stream(config.training.seed, STREAM_INIT))
    if config.model.linear_path == "principal":
        start_at_principal(model, pool, tokenizer, config.loss, spreads)
    return model


def build_optimizer(model: Autoencoder, rules: TrainingConfig) -> torch.optim.AdamW:
    """Build AdamW; vectors and biases do not decay."""
    parameters = list(model.parameters())
    decayed = [p for p in parameters if p.ndim >= 2]
    kept = [p for p in parameters if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": rules.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rules.lr, fused=True)


def one_cycle(step: int, rules: TrainingConfig) -> float:
    """Return the learning rate of a step: up along a cosine, then down along a longer one."""
    peak = rules.lr
    start, end = peak / START_DIVISOR, peak / START_DIVISOR / END_DIVISOR
    turn = rules.warmup * rules.steps
    low, part = (start, step / turn) if step < turn else (end, 1 - (step - turn) / max(rules.steps - turn, 1))
    return low + (peak - low) * (1 - math.cos(math.pi * part)) / 2


def prepare_run(
    data: Source,
    config: HyperrepConfig,
    device: torch.device,
    images: ImageSet | None = None,
    ranks: Ranks = ALONE,
) -> Run:
    """Gather what a training needs, as it is before its first step."""
    rules = config.training
    tokenizer = build_tokenizer(data.layout, config)
    sizes = measure_sizes(tokenizer, config)
    pool = gather_pool(data, rules.epochs, "train", HOLD_BYTES)
    val_pool = gather_pool(data, rules.epochs, "val", hold_bytes=0)  # few of them are looked at
    batching = Batching(tokenizer, tell_kinds(tokenizer), sizes.window, config.views)
    val_batches = draw_validation(val_pool, batching, rules)
    some = pool.thin_out(MOST_NETWORKS)
    spreads = measure_spreads(data.layout, pool.take(some)) if config.loss.normalization == "spread" else None
    model = build_model(config, sizes, pool, tokenizer, spreads).to(device)
    behaviour = build_behaviour(data, config, tokenizer, images, (pool, val_pool), device)
    spreads = None if spreads is None else spreads.to(device)
    criterion = build_criterion(config.loss, behaviour, spreads, rules.seed)
    if config.loss.scale == "first_step":
        criterion = scale_terms(criterion, model, draw_batch(pool, batching, rules, 0).to(device))
    learner, optimizer = build_learner(model, criterion, rules, ranks), build_optimizer(model, rules)
    return Run(config, batching, pool, val_batches, model, criterion, learner, optimizer, Progress(), device, ranks)


def take_step(run: Run) -> Float[Tensor, " terms"]:
    """Learn from the batch of the next step; return its loss terms."""
    rules, step = run.config.training, run.progress.step
    batch = run.ranks.share(draw_batch(run.pool, run.batching, rules, step))
    for group in run.optimizer.param_groups:
        group["lr"] = one_cycle(step, rules)
    losses = run.learner(batch.to(run.device), step)
    run.optimizer.zero_grad(set_to_none=True)
    losses["loss"].backward()
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), rules.clip)
    run.optimizer.step()
    run.progress.step += 1
    return torch.stack([losses[term].detach() for term in run.criterion.terms])


@torch.no_grad()
def validate(run: Run) -> Float[Tensor, " terms"]:
    """Measure the loss terms on validation members, each network counting the same."""
    terms = run.criterion.terms
    sums = torch.zeros(len(terms), device=run.device)
    for batch in run.val_batches[run.ranks.rank :: run.ranks.num]:
        losses = measure_losses(run.model, batch.to(run.device), run.criterion, None)
        sums += torch.stack([losses[term] for term in terms]) * len(batch.inputs)
    return run.ranks.add(sums) / sum(len(batch.inputs) for batch in run.val_batches)


def note_validation(run: Run, train_terms: Float[Tensor, " terms"]) -> dict[str, float]:
    """Validate, add a row to the history, and keep the model if validation members say that it is the best so far."""
    progress, rules = run.progress, run.config.training
    seen = progress.step * min(rules.batch_size, run.pool.num_networks)
    row = {"epoch": seen / run.pool.num_networks, "step": progress.step, "lr": one_cycle(progress.step - 1, rules)}
    for split, terms in (("train", train_terms), ("val", validate(run))):
        row |= {f"{split}_{term}": value for term, value in zip(run.criterion.terms, terms.tolist(), strict=True)}
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
        rules.batch_size / step_s,
        (rules.steps - step) * step_s,
    )


def learn(run: Run, scratch: Path | None) -> None:
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
        if scratch is not None:
            write_state(scratch, run.model, run.optimizer, progress)


def train_hyperrep(
    data: Source,
    config: HyperrepConfig,
    scratch: Path | None,
    device: torch.device,
    images: ImageSet | None = None,
    ranks: Ranks = ALONE,
) -> Trained:
    """Train an autoencoder on the train members of a weight data set; keep it as it served the val members best.

    Args:
        scratch: folder for the state from which a killed training goes on to the same end; None keeps none.
        images: what the networks were trained on, of which the loss sees the training images; needed only where it
            runs networks.
        ranks: of several processes that all call this, each working on its share of every batch.

    Raises:
        BadInput: the window or the heads do not fit, no checkpoint is of the epochs wanted, the networks cannot be run
            on the images, or the loss diverges.
    """
    run = prepare_run(data, config, device, images, ranks)
    untrained = deepcopy(run.model).eval()
    if scratch is not None:
        read_state(scratch, run.model, run.optimizer, run.progress)
    learn(run, scratch)
    if not run.progress.best:
        term = f"val_{config.training.keep_best}"
        raise BadInput(f"training: {term} was not finite at any of {len(run.progress.history)} validations; see lr")
    run.model.load_state_dict(run.progress.best)
    statistics = Statistics(data.statistics.mean.to(device), data.statistics.std.to(device))
    origin = tell_origin(data.about)
    reference = data.reference.to(device)
    hyperrep = Hyperrep(config, run.model.eval(), run.batching.tokenizer, statistics, reference, origin)
    return Trained(hyperrep, replace(hyperrep, model=untrained), pd.DataFrame(run.progress.history))
