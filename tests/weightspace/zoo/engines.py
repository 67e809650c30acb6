"""The engines, each as a function that returns all it makes."""

from weightspace.zoo import fused_cpu, torch_engine
from weightspace.zoo.training import make_trajectory


def collect(engine):
    def train(architecture, recipe, initial, images, epochs, device):
        trajectory = make_trajectory(len(initial), epochs + 1, initial.shape[1])
        engine(architecture, recipe, initial, images, epochs, device, trajectory.keep)
        return trajectory

    return train


train_members_fused = collect(fused_cpu.train_members_fused)
train_members_torch = collect(torch_engine.train_members_torch)
