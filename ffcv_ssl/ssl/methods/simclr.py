"""SimCLR: tell the views of one image from the views of all others."""

import torch
from torch import Tensor, nn

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl.methods.method import Logs, Method, Normalize
from ffcv_ssl.ssl.methods.unit import unit


def nt_xent(embeddings: Tensor, temperature: float, decoupled: bool = False) -> Tensor:
    """Normalized-temperature cross entropy over two or more views.

    Each of the B x V views is an anchor; all others are candidates, those of the same image the positives. The loss is the mean over
    anchors of the mean over positives of -log softmax(cosine / temperature). Positives stay in the denominator. For V = 2 this is SimCLR's
    loss, for V > 2 SupCon's "out" form with every image its own class.

    Decoupled, the denominator holds the views of other images only: an anchor close to its positives then pushes the others away as
    strongly as before, which lets small batches learn. That loss may be negative.

    Parameters
    ----------
    embeddings
        (B, V, D) floating point, V >= 2, B >= 2 if decoupled; normalized here.
    temperature
        > 0.
    decoupled
        Whether the positives leave the denominator.

    References
    ----------
    Chen et al., arXiv 2002.05709, equation 1; Khosla et al., arXiv 2004.11362, equation 2. Decoupled: Yeh et al., arXiv 2110.06848, without
    their weights of the positives.
    """
    num_images, num_views, _ = embeddings.shape
    z = unit(embeddings.flatten(0, 1))
    logits = z @ z.T / temperature
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    image = torch.arange(num_images, device=z.device).repeat_interleave(num_views)
    same_image = image[:, None] == image[None, :]
    positive = same_image & ~itself
    log_partition = logits.masked_fill(same_image if decoupled else itself, -torch.inf).logsumexp(dim=1)
    mean_positive = logits.masked_fill(~positive, 0).sum(dim=1) / (num_views - 1)
    return (log_partition - mean_positive).mean()


class SimCLR(Method):
    """SimCLR for two or more views.

    Parameters
    ----------
    backbone, projector, normalize
        See `Method`.
    temperature
        Of the softmax over cosines, > 0.
    decoupled
        See `nt_xent`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        normalize: Normalize,
        temperature: float = 0.5,
        decoupled: bool = False,
    ):
        super().__init__(backbone, projector, normalize)
        if not temperature > 0:
            raise ConfigError(f"SimCLR: temperature must be positive, got {temperature}.")
        self.temperature = temperature
        self.decoupled = decoupled

    def loss(self, embeddings: Tensor) -> tuple[Tensor, Logs]:
        """NT-Xent of (B, V, D) embeddings, and the mean cosine between views of one image."""
        if embeddings.shape[1] < 2:
            raise ConfigError("SimCLR compares views of one image: it needs at least 2 views, got 1.")
        if self.decoupled and embeddings.shape[0] < 2:
            raise ConfigError("SimCLR, decoupled: it compares with other images only and needs at least 2 in a batch, got 1.")
        with torch.no_grad():
            # Of V unit vectors: |sum|² = V + sum of the V(V-1) mutual cosines.
            num_views = embeddings.shape[1]
            norm_of_sum = unit(embeddings).sum(dim=1).square().sum(dim=1)
            cosine = ((norm_of_sum - num_views) / (num_views * (num_views - 1))).mean()
        return nt_xent(embeddings, self.temperature, self.decoupled), {"positive_cosine": cosine}
