"""LARS against tensor-by-tensor references of both published forms."""

import copy

import pytest
import torch
from torch import nn

from ffcv_ssl.ssl import LARS, parameter_groups

RATES = [0.3, 0.3, 0.2, 0.001, 0.0]  # above all layer-wise rates, below all of them, and 0


def solo_learn_step(
    params, gradients, buffers, lr, momentum, nesterov, weight_decay, eta, eps=1e-8
):
    """EMP-SSL's optimizer: LARS with clipping around SGD, one tensor at a time."""
    for i, (p, g) in enumerate(zip(params, gradients, strict=True)):
        if p.dim() > 1:
            p_norm, g_norm = p.norm().item(), g.norm().item()
            if p_norm != 0 and g_norm != 0:
                trust = eta * p_norm / (g_norm + p_norm * weight_decay + eps)
                g = (g + weight_decay * p) * min(trust / lr if lr else float("inf"), 1)
        buffers[i] = g.clone() if buffers[i] is None else momentum * buffers[i] + g
        p -= lr * (g + momentum * buffers[i] if nesterov else buffers[i])


def vicreg_step(params, gradients, buffers, lr, momentum, nesterov, weight_decay, eta):
    """FFCV-SSL's optimizer: the layer-wise rate scales the decayed gradient inside the momentum."""
    for i, (p, g) in enumerate(zip(params, gradients, strict=True)):
        if p.dim() > 1:
            g = g + weight_decay * p
            p_norm, g_norm = p.norm().item(), g.norm().item()
            g = g * (eta * p_norm / g_norm if p_norm > 0 and g_norm > 0 else 1.0)
        buffers[i] = g.clone() if buffers[i] is None else momentum * buffers[i] + g
        p -= lr * (g + momentum * buffers[i] if nesterov else buffers[i])


def example_tensors():
    """Return a convolution, a matrix, a bias, a zero matrix and one more matrix, in float64."""
    torch.manual_seed(0)
    params = [
        torch.randn(4, 3, 3, 3),
        torch.randn(5, 7),
        torch.randn(5),
        torch.zeros(3, 3),
        torch.randn(2, 6),
    ]
    return [p.double() for p in params]


@pytest.mark.parametrize(
    ("clip", "reference", "eta"), [(True, solo_learn_step, 0.005), (False, vicreg_step, 0.001)]
)
@pytest.mark.parametrize("nesterov", [False, True])
def test_lars__equals_reference_for_five_steps(clip, reference, eta, nesterov):
    """Five steps match the reference, also for tensors with zero weights or zero gradients."""
    params = [nn.Parameter(p) for p in example_tensors()]
    expected, buffers = example_tensors(), [None] * 5
    optimizer = LARS(
        params, lr=1.0, momentum=0.9, weight_decay=1e-2, eta=eta, clip=clip, nesterov=nesterov
    )
    generator = torch.Generator().manual_seed(1)
    for lr in RATES:
        gradients = [
            torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in expected
        ]
        gradients[4].zero_()
        reference(expected, gradients, buffers, lr, 0.9, nesterov, 1e-2, eta)
        for p, g in zip(params, gradients, strict=True):
            p.grad = g.clone()
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        for p, q in zip(params, expected, strict=True):
            torch.testing.assert_close(p.detach(), q)


def test_lars__leaves_gradients_and_absent_gradients_alone():
    """A step changes no `.grad`; parameters without gradient keep their values."""
    params = [
        nn.Parameter(torch.randn(3, 3)),
        nn.Parameter(torch.randn(3)),
        nn.Parameter(torch.randn(2, 2)),
    ]
    before = params[2].detach().clone()
    for p in params[:2]:
        p.grad = torch.ones_like(p)
    LARS(params, lr=0.1, nesterov=True, weight_decay=0.1).step()
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in params[:2])
    assert torch.equal(params[2], before)


def test_lars__weights_are_scale_invariant_and_biases_are_not():
    """Doubling the gradient changes no step of a weight and doubles the step of a bias."""
    steps = []
    for scale in (1.0, 2.0):
        torch.manual_seed(0)
        weight, bias = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.randn(4))
        start = weight.detach().clone(), bias.detach().clone()
        weight.grad, bias.grad = scale * torch.ones(4, 4), scale * torch.ones(4)
        LARS([weight, bias], lr=0.3, eta=0.005, clip=True).step()
        steps.append((weight.detach() - start[0], bias.detach() - start[1]))
    torch.testing.assert_close(steps[0][0], steps[1][0])
    torch.testing.assert_close(2 * steps[0][1], steps[1][1])


def test_lars__state_survives_saving():
    """An optimizer restored from another's state takes the same next step."""
    params = [nn.Parameter(p.float()) for p in example_tensors()]
    optimizer = LARS(params, lr=0.1, nesterov=True)
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    twins = [nn.Parameter(p.detach().clone()) for p in params]
    twin = LARS(twins, lr=0.1, nesterov=True)
    twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for p in twins:
        p.grad = torch.ones_like(p)
    optimizer.step()
    twin.step()
    assert all(torch.equal(p, q) for p, q in zip(params, twins, strict=True))


def test_lars__refuses_bad_options():
    """A negative rate, a momentum of 1 and nesterov without momentum raise a ValueError."""
    p = [nn.Parameter(torch.zeros(2))]
    for options in (
        {"lr": -1.0},
        {"lr": 0.1, "momentum": 1.0},
        {"lr": 0.1, "momentum": 0.0, "nesterov": True},
    ):
        with pytest.raises(ValueError, match="LARS"):
            LARS(p, **options)


def test_parameter_groups__spares_one_dimensional_tensors():
    """Biases and normalization get no decay; frozen parameters are in no group."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[2].weight.requires_grad_(False)
    decayed, spared = parameter_groups(model, 0.1, exclude_1d=True)
    assert [p.shape for p in decayed["params"]] == [(4, 3)]
    assert len(spared["params"]) == 4
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    (together,) = parameter_groups(model, 0.1, exclude_1d=False)
    assert len(together["params"]) == 5
