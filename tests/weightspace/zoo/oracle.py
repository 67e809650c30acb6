"""Train one member the obvious way: an nn.Sequential, torch.optim, one batch after the other."""

import numpy as np
import torch
from torch import nn

from weightspace.networks import trace_shapes
from weightspace.zoo.training import batch_bounds, draw_keep, draw_labels, draw_order, draw_subset

MODULES = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
    "silu": nn.SiLU,
}


class Masked(nn.Module):
    """Dropout whose mask is handed in."""

    mask = None

    def forward(self, x):
        return x if self.mask is None else x * self.mask.reshape(x.shape)


def build_module(architecture, activation, weights, dtype):
    layers, masked = [], {}
    shapes = trace_shapes(architecture)
    flat = False
    for number, block in enumerate(architecture.blocks):
        channels, height, width = shapes[number]
        if block.kind == "conv":
            layers.append(nn.Conv2d(channels, block.features, block.kernel, block.stride, bias=block.bias))
        else:
            layers += [nn.AdaptiveAvgPool2d(1)] if block.average else []
            layers += [] if flat else [nn.Flatten()]
            flat = True
            inputs = channels if block.average else channels * height * width
            layers.append(nn.Linear(inputs, block.features, bias=block.bias))
        layers += [nn.MaxPool2d(2)] if block.pool else []
        layers += [MODULES[activation]()] if block.activate else []
        if block.dropout:
            masked[number] = Masked()
            layers.append(masked[number])
    module = nn.Sequential(*layers).to(dtype)
    nn.utils.vector_to_parameters(weights.to(dtype, copy=True), module.parameters())
    return module, masked


def build_optimizer(name, parameters, lr, weight_decay):
    kinds = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop": torch.optim.RMSprop,
    }
    extra = {"momentum": 0.9} if name == "sgd" else {}
    return kinds[name](parameters, lr=lr, weight_decay=weight_decay, **extra)


def build_scheduler(name, optimizer, lr, total):
    if name == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=total)
    if name == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def pick_member(value, member):
    return value[member].item() if isinstance(value, np.ndarray) else value


def train_alone(architecture, recipe, member, initial, images, epochs, dtype=torch.float32, during=None):
    """Return the weights after every epoch, epoch 0 first, as float64.

    Appends to `during`, where given, loss and accuracy on each epoch's images as they were learned from.
    """
    seed, rate = int(recipe.seed[member]), float(recipe.dropout[member])
    module, masked = build_module(architecture, recipe.activation, initial[member], dtype)
    optimizer = build_optimizer(
        recipe.optimizer, module.parameters(), float(recipe.lr[member]), float(recipe.weight_decay[member])
    )
    shapes = trace_shapes(architecture)[1:]
    subset = draw_subset(seed, int(recipe.num_train[member]), len(images.train))
    total = epochs * -(-len(subset) // recipe.batch_size)
    schedule = pick_member(recipe.schedule, member)
    scheduler = build_scheduler(schedule, optimizer, float(recipe.lr[member]), total)
    noise = pick_member(recipe.label_noise, member)
    noisy = draw_labels(seed, images.train_labels.numpy(), subset, noise, architecture.num_classes)
    labels = torch.from_numpy(noisy)
    trajectory, step = [nn.utils.parameters_to_vector(module.parameters()).detach().double()], 0
    for epoch in range(1, epochs + 1):
        order, losses, right = draw_order(seed, epoch, subset), 0.0, 0
        for start, stop in batch_bounds(len(order), recipe.batch_size):
            chosen = torch.from_numpy(order[start:stop])
            for number, layer in masked.items():
                units = np.arange(np.prod(shapes[number]), dtype=np.uint64) | np.uint64(number << 16)
                rows = np.arange(stop - start, dtype=np.uint64)[:, None]
                keep = draw_keep(np.array(seed, np.uint64), step, rows, units, np.array(rate))
                layer.mask = torch.from_numpy(keep / (1 - rate)).to(dtype)
            optimizer.zero_grad()
            logits = module(images.train[chosen].to(dtype))
            loss = nn.functional.cross_entropy(logits, labels[chosen])
            loss.backward()
            losses += loss.item() * len(chosen)
            right += (logits.argmax(1) == labels[chosen]).sum().item()
            optimizer.step()
            step += 1
            if step < total:
                scheduler.step()
        trajectory.append(nn.utils.parameters_to_vector(module.parameters()).detach().double())
        if during is not None:
            during.append((losses / len(order), right / len(order)))
    return torch.stack(trajectory)
