"""Values of the schedules at their corners."""

import math

import pytest
import torch

from ffcv_ssl.ssl import rising_momentum, warmup_cosine


def test_warmup_cosine__values_at_start_middle_and_end():
    """Without warm-up the factor is 1 at 0, 1/2 at T/2, and 0 from T on."""
    assert warmup_cosine(0.0) == 1.0
    assert warmup_cosine(0.5) == pytest.approx(0.5)
    assert warmup_cosine(1.0) == pytest.approx(0.0, abs=1e-12)
    assert warmup_cosine(1.5) == pytest.approx(0.0, abs=1e-12)


def test_warmup_cosine__warms_up_linearly_and_ends_at_final():
    """With 10 % warm-up the factor rises linearly to 1 and ends at the final factor."""
    values = [warmup_cosine(p, warmup=0.1, final=0.002) for p in (0.0, 0.05, 0.1, 0.55, 1.0)]
    assert values == pytest.approx([0.0, 0.5, 1.0, 0.501, 0.002])


def test_warmup_cosine__equals_torchs_cosine_per_step():
    """Each step has the learning rate of torch's CosineAnnealingLR."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    for step in range(50):
        assert 0.3 * warmup_cosine(step / 50) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()


def test_rising_momentum__values_at_start_middle_and_end():
    """The momentum rises along a cosine from its start to 1 and never exceeds 1."""
    values = [rising_momentum(progress, 0.9) for progress in (0.0, 0.25, 0.5, 1.0, 1.5)]
    assert values == pytest.approx(
        [0.9, 1 - 0.05 * (1 + math.sqrt(0.5)), 0.95, 1.0, 1.0], abs=1e-12
    )
