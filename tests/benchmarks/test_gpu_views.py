"""The GPU benchmark, as far as it can be tested without one: what it renders is what the CPU renders."""

import pytest
import torch

from ffcv_ssl.benchmarks import gpu_views
from ffcv_ssl.views import emp_ssl, simclr
from tests.reference.device import ReferenceDevice

SMALL = [
    gpu_views.Workload("patches", 3, (20, 23), emp_ssl(4, patch=7, size=12, normalize=gpu_views.NORMALIZE, dtype="bfloat16")),
    gpu_views.Workload("views", 2, (61, 40), simclr(56)),
]


@pytest.mark.parametrize("workload", SMALL, ids=lambda workload: workload.name)
def test_batch__is_compared_with_the_cpu(workload, monkeypatch):
    """A batch that was rendered right has distance 0; one wrong value is found and measured in levels."""
    batch = gpu_views.Batch(ReferenceDevice(torch.device("cpu")), workload, workload.count)
    assert batch.distance() == (0, 0.0)
    assert batch.num_views == workload.count * len(workload.pipeline[0].pipelines)
    table = batch.plan.lut[0].tolist()

    def launch_wrong(*arguments, launch=ReferenceDevice.launch):
        launch(*arguments)
        out = arguments[-1].view(torch.int16).view(-1) if workload.name == "patches" else arguments[-1]
        signed = torch.from_numpy(batch.plan.lut[0].copy()).view(out.dtype)
        level = table.index(int(out[0].item()) & 0xFFFF) if workload.name == "patches" else int(out[0])
        out[0] = signed[level + 5 if level < 200 else level - 5]

    monkeypatch.setattr(ReferenceDevice, "launch", launch_wrong)
    largest, share = batch.distance()
    assert largest == 5
    assert share == 1 / batch.out.numel()


def test_workloads__have_the_sizes_of_the_goals():
    """Patches 16 to 32 in bfloat16, and SimCLR's views in bytes."""
    by_name = {workload.name: workload for workload in gpu_views.workloads()}
    assert by_name["emp20"].goal == by_name["emp200"].goal == 30e6
    assert by_name["simclr 224"].goal == 500e3
    for workload in by_name.values():
        (tensor,) = gpu_views.plan_images("image", {"image": workload.pipeline}, workload.size).outputs[0].tensors
        assert tensor.dtype == (torch.bfloat16 if workload.name.startswith("emp") else torch.uint8)


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_program__without_a_gpu_says_so(capsys, monkeypatch):
    """It ends with a sentence, not with a traceback."""
    monkeypatch.setattr("sys.argv", ["gpu_views.py"])
    with pytest.raises(SystemExit, match=r"measures a GPU: .*torch finds no GPU"):
        gpu_views.main()
