"""One SimCLR training step of a small residual network on the CPU.

Every contestant feeds the same step.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

TEMPERATURE, PROJECTION = 0.5, 64
MEAN, DEVIATION = 118.0, 58.0


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut; halves height and width."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, out_channels, 3, stride=2, padding=1, bias=False)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(channels, out_channels, 1, stride=2, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(out_channels) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(inner)) + self.norms[2](self.shortcut(x)))


class SimClrStep:
    """Training step with network and optimizer; called with (B, 2, 3, S, S) uint8 views."""

    def __init__(self, width: int, threads: int):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        stem = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        blocks = [Block(width * 2**i, width * 2 ** (i + 1)) for i in range(3)]
        head = nn.Sequential(
            nn.Linear(8 * width, 8 * width), nn.ReLU(), nn.Linear(8 * width, PROJECTION)
        )
        self.network = nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.05, momentum=0.9)

    def __call__(self, views: list[Any]) -> None:
        (images,) = views
        x = (
            images.transpose(0, 1).flatten(0, 1).float().sub_(MEAN).div_(DEVIATION)
        )  # all first views, then all second views
        z = F.normalize(self.network(x))
        similarity = (z @ z.T / TEMPERATURE).fill_diagonal_(-torch.inf)
        half = len(z) // 2
        positives = torch.arange(len(z)).roll(half)
        loss = F.cross_entropy(similarity, positives)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
