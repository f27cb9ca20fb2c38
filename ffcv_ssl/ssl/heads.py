"""Projection and prediction heads between the backbone's features and the loss."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from ffcv_ssl.errors import ConfigError


def mlp(sizes: Sequence[int], batch_norm: bool, last_bias: bool = True) -> nn.Sequential:
    """Build linear layers with ReLU, and optionally batch normalization, between them.

    Parameters
    ----------
    sizes
        Widths of the input, of each hidden layer and of the output; at least two values, each >= 1.
    batch_norm
        Whether to insert a `BatchNorm1d` before each ReLU.
    last_bias
        Whether the last linear layer has a bias.

    Returns
    -------
    Module that maps (N, sizes[0]) to (N, sizes[-1]). The last layer is linear.

    Raises
    ------
    ConfigError
        If a width is below 1.

    Examples
    --------
    >>> [type(layer).__name__ for layer in mlp([8, 16, 4], batch_norm=True)]
    ['Linear', 'BatchNorm1d', 'ReLU', 'Linear']
    """
    if min(sizes) < 1:
        raise ConfigError(f"layer widths must be >= 1, got {' - '.join(map(str, sizes))}.")
    layers: list[nn.Module] = []
    for i, (num_in, num_out) in enumerate(pairwise(sizes)):
        is_last = i == len(sizes) - 2
        layers.append(nn.Linear(num_in, num_out, bias=last_bias or not is_last))
        if not is_last:
            if batch_norm:
                layers.append(nn.BatchNorm1d(num_out))
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def simclr_projector(
    num_features: int, hidden: int, out: int, num_layers: int = 2, batch_norm: bool = True
) -> nn.Sequential:
    """Build SimCLR's projector, an MLP.

    Parameters
    ----------
    num_features
        Length of the backbone's features.
    hidden
        Width of the hidden layers.
    out
        Length of the embeddings.
    num_layers
        Number of linear layers, >= 1.
    batch_norm
        Whether the hidden layers have batch normalization. The last layer then has no bias, as in
        FFCV-SSL's 8192-8192-8192. Without batch normalization every layer has a bias.

    Returns
    -------
    Module that maps (N, num_features) to (N, out).

    Raises
    ------
    ConfigError
        If a width is below 1.
    """
    sizes = [num_features, *[hidden] * (num_layers - 1), out]
    return mlp(sizes, batch_norm, last_bias=not batch_norm)


def byol_predictor(out: int, hidden: int) -> nn.Sequential:
    """Build BYOL's predictor: linear, batch normalization, ReLU, linear without bias.

    The layers are those of the released code. BYOL's projector has the same form:
    `simclr_projector(num_features, hidden, out)`.

    Parameters
    ----------
    out
        Length of the embeddings and of the predictions; 256 in the paper.
    hidden
        Width of the hidden layer; 4096 in the paper.

    Returns
    -------
    Module that maps (N, out) to (N, out).

    Raises
    ------
    ConfigError
        If a width is below 1.

    References
    ----------
    Grill et al., arXiv 2006.07733; google-deepmind/deepmind-research, byol/.
    """
    return mlp([out, hidden, out], batch_norm=True, last_bias=False)


class EmpProjector(nn.Module):
    """EMP-SSL's projector: the layers `pre_feature`, then the layers `projection`.

    The bag of patches, EMP-SSL's evaluation, averages the output of `pre_feature`.

    The layers are those of the released code, which has three linear layers and 1024 outputs. The
    text of the paper gives two layers and 512 outputs.

    Parameters
    ----------
    num_features
        Length of the backbone's features.
    hidden
        Width of `pre_feature` and of the hidden layer of `projection`; 4096 in the released code.
    out
        Length of the embeddings; 1024 in the released code.

    Raises
    ------
    ConfigError
        If `hidden` or `out` is below 1.

    References
    ----------
    Tong et al., arXiv 2304.03977.
    """

    def __init__(self, num_features: int, hidden: int = 4096, out: int = 1024) -> None:
        super().__init__()
        self.pre_feature = nn.Sequential(
            nn.Linear(num_features, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)
        )
        self.projection = mlp([hidden, hidden, out], batch_norm=True)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, num_features) features to (N, out) embeddings."""
        embeddings: Tensor = self.projection(self.pre_feature(features))
        return embeddings
