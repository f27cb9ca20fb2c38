"""SimCLR: contrast the views of one image with the views of all other images."""

import torch
from torch import Tensor, nn

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl.methods.method import Logs, Method, Normalize, unit


def nt_xent(embeddings: Tensor, temperature: float, decoupled: bool = False) -> Tensor:
    """Return the normalized-temperature cross entropy (NT-Xent) of two or more views.

    Each of the B * V views is an anchor. Its positives P are the other views of the same image, and
    its candidates A are all other views of the batch. With s the cosine similarity divided by the
    temperature, the loss is the mean over anchors i of

        mean over p in P(i) of -log(exp(s_ip) / Σ_{a in A(i)} exp(s_ia)).

    For V = 2 this is SimCLR's loss. For V > 2 it is SupCon's loss "out" with one class per image.

    With `decoupled`, the candidates are the views of other images only. The gradient then does not
    vanish when an anchor is close to its positives, which helps small batches. This loss can be
    negative.

    Parameters
    ----------
    embeddings
        (B, V, D) floating point, V >= 2; B >= 2 if `decoupled`. The function normalizes them to
        unit length.
    temperature
        Temperature of the softmax, > 0.
    decoupled
        Whether to leave the positives out of the denominator.

    Returns
    -------
    Scalar with the dtype of `embeddings`, to be minimized.

    References
    ----------
    Chen et al., arXiv 2002.05709, equation 1. Khosla et al., arXiv 2004.11362, equation 2.
    Decoupled: Yeh et al., arXiv 2110.06848, the loss without weights of the positives.

    Examples
    --------
    >>> import torch
    >>> distinct = torch.eye(4)[:, None].expand(4, 2, 4)  # both views agree, images are orthogonal
    >>> collapsed = torch.ones(4, 2, 4)
    >>> bool(nt_xent(distinct, temperature=0.5) < nt_xent(collapsed, temperature=0.5))
    True
    """
    num_images, num_views, _ = embeddings.shape
    z = unit(embeddings.flatten(0, 1))
    logits = z @ z.T / temperature
    is_self = torch.eye(len(z), dtype=torch.bool, device=z.device)
    image = torch.arange(num_images, device=z.device).repeat_interleave(num_views)
    same_image = image[:, None] == image[None, :]
    positive = same_image & ~is_self
    excluded = same_image if decoupled else is_self
    log_partition = logits.masked_fill(excluded, -torch.inf).logsumexp(dim=1)
    mean_positive = logits.masked_fill(~positive, 0).sum(dim=1) / (num_views - 1)
    return (log_partition - mean_positive).mean()


class SimCLR(Method):
    """SimCLR for two or more views; the loss is `nt_xent`.

    Parameters
    ----------
    backbone
        Module that maps (N, 3, H, W) images to (N, num_features) features.
    projector
        Module that maps features to embeddings (N, D); see `simclr_projector`.
    normalize
        Normalization of uint8 images.
    temperature
        Temperature of the softmax over cosines, > 0.
    decoupled
        Whether to leave the positives out of the denominator; see `nt_xent`.

    Raises
    ------
    ConfigError
        If `temperature` is not positive.

    References
    ----------
    Chen et al., arXiv 2002.05709.

    Examples
    --------
    >>> import torch
    >>> from ffcv_ssl.ssl import Normalize, SimCLR, resnet18, simclr_projector
    >>> network = resnet18(width=4, stem="cifar_stride2")
    >>> projector = simclr_projector(network.num_features, hidden=16, out=8)
    >>> method = SimCLR(network, projector, Normalize([127.5] * 3, [127.5] * 3), temperature=0.2)
    >>> views = torch.randint(0, 256, (4, 2, 3, 16, 16), dtype=torch.uint8)
    >>> loss, logs = method(views)
    >>> loss.shape, list(logs)
    (torch.Size([]), ['positive_cosine'])
    >>> method.embed(views).shape
    torch.Size([4, 2, 8])
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        normalize: Normalize,
        temperature: float = 0.5,
        decoupled: bool = False,
    ) -> None:
        super().__init__(backbone, projector, normalize)
        if not temperature > 0:
            raise ConfigError(f"SimCLR: temperature must be positive, got {temperature}.")
        self.temperature = temperature
        self.decoupled = decoupled

    def loss(self, embeddings: Tensor) -> tuple[Tensor, Logs]:
        """Return the NT-Xent loss and the mean cosine between views of one image.

        Parameters
        ----------
        embeddings
            (B, V, D) float32 or float64, V >= 2; B >= 2 if `decoupled`.

        Returns
        -------
        The scalar loss, and the log "positive_cosine".

        Raises
        ------
        ConfigError
            If there is only one view, or only one image although the loss is decoupled.
        """
        if embeddings.shape[1] < 2:
            raise ConfigError(
                "SimCLR compares views of one image and needs at least 2 views, got 1."
            )
        if self.decoupled and embeddings.shape[0] < 2:
            raise ConfigError(
                "SimCLR, decoupled: the loss contrasts different images and needs at least 2 in a "
                "batch, got 1."
            )
        with torch.no_grad():
            # For V unit vectors, |sum|² = V + the sum of the V(V-1) mutual cosines.
            num_views = embeddings.shape[1]
            norm_of_sum = unit(embeddings).sum(dim=1).square().sum(dim=1)
            cosine = ((norm_of_sum - num_views) / (num_views * (num_views - 1))).mean()
        return nt_xent(embeddings, self.temperature, self.decoupled), {"positive_cosine": cosine}
