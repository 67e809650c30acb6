"""The GPU engine's kernels, run on the CPU by Triton's interpreter: what they compute, and nothing about speed."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.weightspace.zoo.engines import collect, train_members_torch
from tests.weightspace.zoo.oracle import train_alone
from tests.weightspace.zoo.test_fused_cpu import ACTIVATIONS, OPTIMIZERS, make_images, make_recipe, start
from weightspace.config import BadInput
from weightspace.networks import Architecture, Block
from weightspace.zoo.torch_engine import select_members
from weightspace.zoo.train import choose_engine
from weightspace.zoo.training import PROPERTIES

pytest.importorskip("triton")
from weightspace.zoo import fused_gpu, fused_gpu_source

train_members_gpu = collect(fused_gpu.train_members_gpu)


@pytest.fixture(autouse=True)
def wide_tiles(monkeypatch):
    """The interpreter's time goes by operations, not by lanes."""
    for name, size in {"TILE": 64, "BLOCK": 2048, "WIDE": 512}.items():
        monkeypatch.setattr(fused_gpu_source, name, size)


CPU = torch.device("cpu")
STRIDED = Architecture(
    name="strided",
    channels=2,
    height=17,
    width=16,
    blocks=(
        Block(kind="conv", features=3, kernel=3, stride=2, pool=True, dropout=True),
        Block(kind="conv", features=4, kernel=2, bias=False),
        Block(kind="linear", features=6, average=True, dropout=True),
        Block(kind="linear", features=3, activate=False, dropout=True),
    ),
)


def assert_as_exact_as_torch(architecture, recipe, members=2):
    images, initial = make_images(architecture), start(architecture, members)
    got = train_members_gpu(architecture, recipe, initial, images, 1, CPU).weights[:, 1]
    for member in range(members):
        before, exact = train_alone(architecture, recipe, member, initial, images, 1, torch.float64)
        plain = train_alone(architecture, recipe, member, initial.clone(), images, 1)[1]
        update = (exact - before).norm()
        error = (torch.from_numpy(got[member]).double() - exact).norm() / update
        assert error < 2 * (plain - exact).norm() / update + 1e-5


SOME = [name if name == "gelu" else pytest.param(name, marks=pytest.mark.slow) for name in ACTIVATIONS]
"""The others take as long; tanh is that of the test of each optimizer."""


@pytest.mark.parametrize("activation", SOME)
def test_each_activation_is_as_close_to_float64_as_torch(tiny_architecture, activation):
    recipe = make_recipe(2, activation=activation, optimizer="sgd", num_train=np.array([14, 9]))
    assert_as_exact_as_torch(tiny_architecture, recipe)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_optimizer_is_as_close_to_float64_as_torch(tiny_architecture, optimizer):
    changes = {"schedule": np.array(["one_cycle", "cosine"]), "label_noise": np.array([0.0, 0.3])}
    recipe = make_recipe(2, optimizer=optimizer, num_train=np.array([14, 9]), **changes)
    assert_as_exact_as_torch(tiny_architecture, recipe)


def test_strides_averages_and_missing_biases_are_as_close_to_float64_as_torch():
    recipe = make_recipe(2, optimizer="sgd", activation="sigmoid", num_train=np.array([14, 9]))
    assert_as_exact_as_torch(STRIDED, recipe)


def test_equals_the_torch_engine_in_all_it_returns(tiny_architecture, tiny_images):
    recipe, initial = make_recipe(2, num_train=np.array([14, 9])), start(tiny_architecture, 2)
    got = train_members_gpu(tiny_architecture, recipe, initial, tiny_images, 2, CPU)
    plain = train_members_torch(tiny_architecture, recipe, initial, tiny_images, 2, CPU)
    np.testing.assert_array_equal(got.weights[:, 0], initial.numpy())
    np.testing.assert_allclose(got.weights, plain.weights, atol=1e-4)
    for name in PROPERTIES:
        np.testing.assert_allclose(got.properties[name], plain.properties[name], atol=1e-4)


def test_metrics_from_the_training_pass_equal_the_torch_engines(tiny_architecture, tiny_images):
    batch_size = np.array([20, 4])  # one of them larger than a tile of images
    recipe = make_recipe(2, num_train=np.array([24, 9]), batch_size=batch_size, train_metrics="during")
    initial = start(tiny_architecture, 2)
    got = train_members_gpu(tiny_architecture, recipe, initial, tiny_images, 1, CPU)
    for member, size in enumerate(batch_size.tolist()):
        rows = np.array([member])
        one = replace(select_members(recipe, rows), batch_size=size)
        plain = train_members_torch(tiny_architecture, one, initial[rows], tiny_images, 1, CPU)
        for name in ("train_loss", "train_accuracy"):
            np.testing.assert_allclose(got.properties[name][member], plain.properties[name][0], rtol=1e-4)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_a_member_alone_has_the_same_bits_as_among_others(tiny_architecture, tiny_images):
    initial = start(tiny_architecture, 4)
    initial[1] = 1e30  # runs into infinities on its first image
    recipe = make_recipe(
        4,
        activation="relu",
        optimizer=np.array(["adam", "sgd", "sgd", "adam"]),
        batch_size=np.array([7, 7, 5, 4]),
        num_train=np.array([14, 9, 12, 9]),
    )
    together = train_members_gpu(tiny_architecture, recipe, initial, tiny_images, 1, CPU)
    assert np.isnan(together.properties["test_loss"][1]).all()
    assert np.isfinite(together.weights[[0, 2, 3]]).all()
    for member in (0, 2):  # the others take as long
        rows = np.array([member])
        alone = train_members_gpu(tiny_architecture, select_members(recipe, rows), initial[rows], tiny_images, 1, CPU)
        assert alone.weights[0].tobytes() == together.weights[member].tobytes()
        for name in PROPERTIES:
            assert alone.properties[name][0].tobytes() == together.properties[name][member].tobytes()


@pytest.mark.parametrize(
    ("change", "wanted"),
    [({"activation": "softsign"}, "gelu$"), ({"augmentation": "flip"}, "none, or the torch engine")],
)
def test_refuses_what_it_has_no_kernel_for_and_names_the_engine_that_has(
    tiny_architecture, tiny_images, change, wanted
):
    with pytest.raises(BadInput, match=wanted):
        train_members_gpu(tiny_architecture, make_recipe(1, **change), start(tiny_architecture, 1), tiny_images, 1, CPU)


def test_runs_only_where_there_is_a_gpu(tiny_architecture):
    assert choose_engine("fused_gpu", torch.device("cuda"), tiny_architecture) is fused_gpu.train_members_gpu
    with pytest.raises(BadInput, match=r"fused_gpu.*device cpu.*torch, fused_cpu on cpu"):
        choose_engine("fused_gpu", CPU, tiny_architecture)


COMPILE = """
import sys, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from weightspace.networks import build_cnn_s
from weightspace.zoo import fused_gpu_source as source
from weightspace.zoo.fused_gpu import build_kernel

POINTERS = {"schedule": "*fp32", "pixels": "*fp32", "state": "*fp32", "scratch": "*fp32", "result": "*fp64"}
SIZES = {"rows", "most", "room"}
name = sys.argv[1]
write = {
    "train": lambda: source.write_train(build_cnn_s(), "tanh", "adam", True, "during"),
    "evaluate": lambda: source.write_evaluate(build_cnn_s(), "tanh"),
}
kernel = build_kernel(write[name](), name)
types = {a: "i32" if a in SIZES else POINTERS.get(a, "*i32") for a in kernel.arg_names}
code = triton.compile(ASTSource(kernel, types), target=GPUTarget("cuda", 90, 32)).asm["ptx"]
print(code)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "phases"), [("train", 17), ("evaluate", 6)])
def test_compiles_for_a_gpu_that_is_not_there(name, phases):
    """Each phase ends with a barrier; no table is read through a cache that stores do not reach, or kept in a stack."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    ran = subprocess.run([sys.executable, "-c", COMPILE, name], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("bar.sync") >= phases
    assert not any(word in ran.stdout for word in ("ld.global.nc", "atom.", "red.global", "st.local"))
