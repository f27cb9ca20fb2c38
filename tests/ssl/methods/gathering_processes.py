"""Program of the processes in `test_gather.py`: one backward pass of each method."""

import sys
from pathlib import Path

import torch
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ffcv_ssl.ssl import (
    BYOL,
    BarlowTwins,
    EmpProjector,
    EmpSSL,
    Normalize,
    SimCLR,
    VICReg,
    byol_predictor,
    resnet18,
    simclr_projector,
)

METHODS = ("simclr", "decoupled", "emp_ssl", "barlow_twins", "vicreg", "byol")


def method_in_float64(name):
    """Build a narrow network in float64 with batch normalization in evaluation mode.

    Each image is then encoded independently of the others.
    """
    torch.manual_seed(0)
    network, normalize = (
        resnet18(width=2, stem="cifar_stride2"),
        Normalize([127.5] * 3, [127.5] * 3),
    )
    if name == "emp_ssl":
        method = EmpSSL(network, EmpProjector(network.num_features, 16, 8), normalize)
    else:
        projector = simclr_projector(network.num_features, 16, 8)
        method = {
            "simclr": lambda: SimCLR(network, projector, normalize),
            "decoupled": lambda: SimCLR(network, projector, normalize, decoupled=True),
            "barlow_twins": lambda: BarlowTwins(network, projector, normalize),
            "vicreg": lambda: VICReg(network, projector, normalize),
            "byol": lambda: BYOL(network, projector, byol_predictor(8, 16), normalize),
        }[name]()
    method.double()
    for module in method.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.eval()
    return method


def batch_of_views():
    """Return the batch of all processes together, (6, 3, 3, 8, 8) uint8."""
    return torch.randint(
        0, 256, (6, 3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def loss_and_gradients(name, views, wrap=lambda method: method):
    """Return the loss, and the gradient of each trained parameter by name."""
    method = method_in_float64(name)
    network = wrap(method)  # referenced until the gradients are computed
    loss, _ = network(views)
    loss.backward()
    return loss.item(), {key: p.grad for key, p in method.named_parameters() if p.requires_grad}


def main(folder):
    """Save this process's loss and gradients of every method."""
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    found = {
        name: loss_and_gradients(name, batch_of_views()[rank::size], DistributedDataParallel)
        for name in METHODS
    }
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
