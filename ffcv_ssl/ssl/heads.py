"""Projectors: what stands between the features that are kept and the loss that is minimised."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from ffcv_ssl.errors import ConfigError


def mlp(sizes: Sequence[int], batch_norm: bool, last_bias: bool = True) -> nn.Sequential:
    """Build linear layers with (batch normalization and) ReLU between them; nothing follows the last.

    Parameters
    ----------
    sizes
        Width of the input, of each hidden layer and of the output; at least two.
    batch_norm
        Whether a `BatchNorm1d` stands before each ReLU.
    last_bias
        Whether the last linear layer has a bias.
    """
    if min(sizes) < 1:
        raise ConfigError(f"layers are at least 1 wide, got {' - '.join(map(str, sizes))}.")
    layers: list[nn.Module] = []
    for i, (num_in, num_out) in enumerate(pairwise(sizes)):
        is_last = i == len(sizes) - 2
        layers.append(nn.Linear(num_in, num_out, bias=last_bias or not is_last))
        if not is_last:
            layers += [nn.BatchNorm1d(num_out), nn.ReLU(inplace=True)] if batch_norm else [nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def simclr_projector(num_features: int, hidden: int, out: int, num_layers: int = 2, batch_norm: bool = True) -> nn.Sequential:
    """SimCLR's projector: `num_layers` linear layers, `hidden` wide, to `out` values.

    With batch normalization the last layer has no bias (FFCV-SSL's 8192-8192-8192); without, every layer has one.
    """
    return mlp([num_features, *[hidden] * (num_layers - 1), out], batch_norm, last_bias=not batch_norm)


def byol_predictor(out: int, hidden: int) -> nn.Sequential:
    """BYOL's predictor: linear, batch normalization, ReLU, linear without bias, as released.

    BYOL's projector has the same form: `simclr_projector(num_features, hidden, out)`.

    Parameters
    ----------
    out
        Length of the embeddings it takes and of those it predicts; 256 in the paper.
    hidden
        Width of the hidden layer; 4096 in the paper.
    """
    return mlp([out, hidden, out], batch_norm=True, last_bias=False)


class EmpProjector(nn.Module):
    """EMP-SSL's head as released: `pre_feature` (its output is what the bag of patches averages), then `projection`.

    The paper's text says two layers and 512 outputs; the released code has three and 1024.

    Parameters
    ----------
    num_features
        Width of the backbone's features.
    hidden
        Width of `pre_feature` and of the hidden layer; 4096 in the released code.
    out
        Length of the embeddings; 1024 in the released code.
    """

    def __init__(self, num_features: int, hidden: int = 4096, out: int = 1024):
        super().__init__()
        self.pre_feature = nn.Sequential(nn.Linear(num_features, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True))
        self.projection = mlp([hidden, hidden, out], batch_norm=True)

    def forward(self, features: Tensor) -> Tensor:
        return self.projection(self.pre_feature(features))
