"""Unit vectors with a safe gradient."""

import torch
from torch import Tensor
from torch.nn import functional as F

SHORTEST = 1e-6  # length below which an embedding has no direction; the floor of BYOL's released code


def unit(embeddings: Tensor) -> Tensor:
    """Scale (..., D) to unit length; what is shorter than `SHORTEST` becomes 0 and gets no gradient.

    A narrow head, its last layer without bias, gives exact zeros where all its ReLUs are shut; the gradient of a plain normalization is
    then 1 / eps and ends the run.
    """
    has_direction = torch.linalg.vector_norm(embeddings.detach(), dim=-1, keepdim=True) > SHORTEST
    return F.normalize(embeddings * has_direction, dim=-1)
