"""Unit vectors: values of a plain normalization, and no gradient for zero vectors."""

import pytest
import torch
from torch.nn import functional as F

from ffcv_ssl.ssl import barlow_twins_loss, emp_ssl_loss, nt_xent
from ffcv_ssl.ssl.methods.method import SHORTEST, unit

LOSSES = {
    "nt_xent": lambda z: nt_xent(z, 0.5),
    "emp_ssl": lambda z: emp_ssl_loss(z, 200.0, 0.2)[0],
    "barlow_twins": lambda z: barlow_twins_loss(z, 0.01)[0],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unit__is_normalization_where_there_is_a_direction(dtype):
    """Values and gradients of ordinary rows equal torch's to the bit."""
    torch.manual_seed(0)
    x, weights = (
        torch.randn(6, 3, 5, dtype=dtype, requires_grad=True),
        torch.randn(6, 3, 5, dtype=dtype),
    )
    for found, expected in zip(
        *[
            (z, torch.autograd.grad((z * weights).sum(), x)[0])
            for z in (unit(x), F.normalize(x, dim=2))
        ],
        strict=True,
    ):
        assert torch.equal(found, expected)


def test_unit__short_rows_are_zero():
    """Rows up to the shortest length become 0 without gradient; longer rows become unit vectors."""
    x = torch.tensor([[0.0, 0.0], [0.5 * SHORTEST, 0.0], [0.0, 2 * SHORTEST]], requires_grad=True)
    z = unit(x)
    torch.testing.assert_close(z, torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 1.0]]))
    z.sum().backward()
    assert torch.equal(x.grad[:2], torch.zeros(2, 2))


@pytest.mark.parametrize("name", LOSSES)
def test_losses__zero_embedding_gets_no_gradient(name):
    """A zero embedding gets no gradient, and all other gradients stay bounded."""
    torch.manual_seed(0)
    z = torch.randn(6, 3, 5)
    z[2, 1] = 0
    z.requires_grad_()
    LOSSES[name](z).backward()
    assert torch.equal(z.grad[2, 1], torch.zeros(5))
    assert 0 < z.grad.abs().max() < 1e3
