"""Tests of the choice of device and precision."""

import pytest
import torch

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.train import TrainConfig, pick_device, pick_precision, prepare_torch
from ffcv_ssl.train.device import autocast

CPU = torch.device("cpu")


def test_pick_device__takes_names_and_refuses_others():
    """Invalid names and missing GPUs raise a ConfigError with the name of the option."""
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type in ("cpu", "cuda")
    for name in ("tpu9", "meta", "cuda:99"):
        with pytest.raises(ConfigError, match=r"train\.device"):
            pick_device(name)


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), "float16"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")]
)
def test_pick_precision__follows_compute_capability(monkeypatch, capability, expected):
    """GPUs use bfloat16 from compute capability 8.0 on, and float16 before."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    assert pick_precision("auto", torch.device("cuda")) == expected


@pytest.mark.parametrize(("supported", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_pick_precision__cpu_needs_bfloat16_instructions(monkeypatch, supported, expected):
    """A CPU uses bfloat16 only if it has the instructions; float16 raises."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported, raising=False)
    assert pick_precision("auto", CPU) == expected
    assert pick_precision("float32", CPU) == "float32"
    with pytest.raises(ConfigError, match="float16 needs a GPU"):
        pick_precision("float16", CPU)


def test_autocast__sets_the_dtype():
    """A matrix product is bfloat16 under bfloat16 and unchanged under float32."""
    a = torch.ones(4, 4)
    with autocast(CPU, "bfloat16"):
        assert (a @ a).dtype == torch.bfloat16
    with autocast(CPU, "float32"):
        assert (a @ a).dtype == torch.float32


def test_prepare_torch__seeds_and_sets_threads():
    """Equal seeds give equal random numbers, and the number of threads is set."""
    prepare_torch(TrainConfig(epochs=1, batch_size=2, device="cpu", seed=3, threads=1))
    first = torch.rand(3)
    prepare_torch(TrainConfig(epochs=1, batch_size=2, device="cpu", seed=3))
    assert torch.equal(torch.rand(3), first)
    assert torch.get_num_threads() == 1


def test_pick_device__under_torchrun(monkeypatch):
    """Each process gets the GPU of its local rank; a GPU by name, or a missing one, raises."""
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda:1")
    assert pick_device("cpu") == CPU
    with pytest.raises(ConfigError, match="use auto or cuda, not cuda:0"):
        pick_device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match=r"finds 2 CUDA device.*nproc_per_node"):
        pick_device("auto")
