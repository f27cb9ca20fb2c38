"""Tests of the network that a training step calls."""

import os
import shutil
from copy import deepcopy

import pytest
import torch
from torch import nn

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.train import TrainConfig, build_optimizer
from ffcv_ssl.train.network import compiled_backbones, training_network
from tests.train.test_loop import Run, small_method

CPU = torch.device("cpu")
HAS_COMPILER = shutil.which(os.environ.get("CXX", "g++")) is not None


def config(**options):
    return TrainConfig(epochs=1, batch_size=8, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sync_batch_norm": True}, "train.sync_batch_norm.*GPUs only"),
        ({"compile": "reduce-overhead"}, "train.compile: reduce-overhead.*need a GPU"),
        ({"compile": "reduce-overhead", "recompute": True}, "cannot recompute"),
    ],
)
def test_training_network__rejects_unsupported_options(options, message):
    """An option that a CPU does not support raises a ConfigError."""
    with (
        pytest.raises(ConfigError, match=message),
        training_network(small_method("simclr"), config(**options), CPU),
    ):
        pass


def test_training_network__names_the_missing_compiler(monkeypatch):
    """Compiling for a CPU without a C++ compiler raises at once."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    with (
        pytest.raises(ConfigError, match="no-such-compiler on a CPU, which is not installed"),
        training_network(small_method("simclr"), config(compile="default"), CPU),
    ):
        pass


def test_training_network__is_the_method_itself():
    """In a single process the network is the method, which recomputes if configured."""
    method = small_method("byol")
    with training_network(method, config(recompute=True), CPU) as network:
        assert network is method
    assert method.recompute


def test_compiled_backbones__only_in_training(monkeypatch):
    """Both backbones of BYOL run compiled in training only, and uncompiled after the block."""
    runs = []

    def compile_by_counting(forward, mode):
        return lambda images: runs.append(mode) or forward(images)

    monkeypatch.setattr(torch, "compile", compile_by_counting)
    method = small_method("byol")
    names = list(method.state_dict())
    views = torch.randint(0, 256, (4, 2, 3, 8, 8), dtype=torch.uint8)
    with compiled_backbones(method, "max-autotune-no-cudagraphs"):
        method(views)
        assert runs == ["max-autotune-no-cudagraphs"] * 2
        assert list(method.state_dict()) == names
        method.eval()
        method(views)
        method.train()
    deepcopy(method)(views)
    with compiled_backbones(method, "no"):
        method(views)
    assert len(runs) == 2


@pytest.mark.skipif(not HAS_COMPILER, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("recompute", [False, True])
# torch's compiler uses functions that torch has deprecated.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fit__compiled_as_eager(tmp_path, recompute):
    """A compiled backbone has the losses and statistics of the eager one, up to rounding."""
    eager, compiled = (
        Run(tmp_path / mode, epochs=1, compile=mode, recompute=recompute and mode != "no")
        for mode in ("no", "default")
    )
    for run in (eager, compiled):
        torch.manual_seed(0)
        run.method.backbone = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()
        )
        run.method.projector = nn.Linear(36, 8)
        run.optimizer = build_optimizer(run.method, run.optim, 8)
        run.fit()
    assert [row[2] for row in compiled.rows()] == pytest.approx(
        [row[2] for row in eager.rows()], rel=1e-4
    )
    for key, value in eager.method.state_dict().items():
        torch.testing.assert_close(compiled.method.state_dict()[key], value, rtol=1e-3, atol=1e-5)
