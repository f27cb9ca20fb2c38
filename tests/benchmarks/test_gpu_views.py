"""The GPU benchmark without a GPU: its rendered views equal those of the CPU kernels."""

import contextlib

import numpy as np
import pytest
import torch

from ffcv_ssl.benchmarks import gpu_training, gpu_views
from ffcv_ssl.loader import Loader
from ffcv_ssl.ssl.backbones import backbone
from ffcv_ssl.views import emp_ssl, simclr
from tests.reference.device import ReferenceDevice

SMALL = [
    gpu_views.Workload(
        "patches",
        3,
        (20, 23),
        emp_ssl(12, n=4, patch=7, normalize=gpu_views.NORMALIZE, dtype="bfloat16"),
    ),
    gpu_views.Workload("views", 2, (61, 40), simclr(56)),
]


@pytest.mark.parametrize("workload", SMALL, ids=lambda workload: workload.name)
def test_batch__is_compared_with_the_cpu(workload, monkeypatch):
    """A correct batch has distance 0; one wrong value is measured in levels."""
    batch = gpu_views.Batch(ReferenceDevice(torch.device("cpu")), workload, workload.count)
    assert batch.distance() == (0, 0.0)
    assert batch.num_views == workload.count * len(workload.pipeline[0].pipelines)
    table = batch.plan.lut[0].tolist()

    def launch_wrong(*arguments, launch=ReferenceDevice.launch):
        launch(*arguments)
        out = (
            arguments[-1].view(torch.int16).view(-1)
            if workload.name == "patches"
            else arguments[-1]
        )
        signed = torch.from_numpy(batch.plan.lut[0].copy()).view(out.dtype)
        level = (
            table.index(int(out[0].item()) & 0xFFFF) if workload.name == "patches" else int(out[0])
        )
        out[0] = signed[level + 5 if level < 200 else level - 5]

    monkeypatch.setattr(ReferenceDevice, "launch", launch_wrong)
    largest, share = batch.distance()
    assert largest == 5
    assert share == 1 / batch.out.numel()


def test_workloads__have_the_sizes_of_the_goals():
    """EMP-SSL patches are bfloat16 and SimCLR views are uint8."""
    by_name = {workload.name: workload for workload in gpu_views.workloads()}
    assert by_name["emp20"].goal == by_name["emp200"].goal == 30e6
    assert by_name["simclr 224"].goal == 500e3
    for workload in by_name.values():
        (tensor,) = (
            gpu_views.plan_images("image", {"image": workload.pipeline}, workload.size)
            .outputs[0]
            .tensors
        )
        assert tensor.dtype == (torch.bfloat16 if workload.name.startswith("emp") else torch.uint8)


def test_training__is_timed_over_as_many_epochs_as_it_takes(tmp_path, monkeypatch):
    """A file of three batches feeds warm-up and seven steps; the stall is a fraction."""
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch, "autocast", lambda *arguments: contextlib.nullcontext())
    path = tmp_path / "patched.beton"
    gpu_training.write(
        path,
        "raw",
        list(np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)),
    )
    pipelines = {"image": emp_ssl(8, n=2, patch=4, normalize=gpu_views.NORMALIZE)}
    with Loader(path, 4, seed=0, pipelines=pipelines) as loader:
        row = gpu_training.train(loader, backbone("resnet18", width=4, stem="cifar"), steps=7)
        assert loader.epoch > 3
    assert row["images_per_s"] > 0
    assert 0 <= row["stall"] < 1


def test_table__names_who_is_absent():
    """A line shows speed, roofline fraction, distance to the CPU, and absent peers."""
    row = {
        "name": "simclr 96",
        "views_per_s": 2e6,
        "bytes_per_s": 4e11,
        "of_roofline": 0.2,
        "goal": None,
    }
    row |= {
        "largest_distance": 1,
        "share_different": 1e-5,
        "kornia": 1e5,
        "torchvision v2": "absent (torchvision)",
    }
    line = gpu_views.rendering_text(row)
    assert "2,000,000 views/s" in line
    assert "20.0 x kornia, torchvision v2: absent (torchvision)" in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_program__without_a_gpu_says_so(capsys, monkeypatch):
    """Without a GPU the script ends with a message instead of a traceback."""
    monkeypatch.setattr("sys.argv", ["gpu_views.py"])
    with pytest.raises(SystemExit, match=r"needs a GPU: .*torch finds no GPU"):
        gpu_views.main()
