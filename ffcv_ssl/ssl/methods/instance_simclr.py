"""Instance-level SimCLR: tell the patches of one image apart, under noise."""

from functools import partial

import torch
from torch import Tensor, nn

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl.methods.method import Logs, Method, Normalize
from ffcv_ssl.ssl.methods.simclr import nt_xent


class GaussianNoise(nn.Module):
    """Add independent normal noise to every value of normalized images; uint8 images are normalized first.

    Parameters
    ----------
    std
        Standard deviation in grey levels of the 0..255 scale, > 0.
    normalize
        What images are normalized by, which decides how much a grey level is.
    """

    def __init__(self, std: float, normalize: Normalize):
        super().__init__()
        if not std > 0:
            raise ConfigError(f"GaussianNoise: the standard deviation is positive, in grey levels, got {std}.")
        self.std = std
        self.normalize = normalize

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) images to noisy ones, normalized floats."""
        normalized = self.normalize(images)
        return normalized + torch.randn_like(normalized) * (self.std * self.normalize.scale)


class InstanceSimCLR(Method):
    """SimCLR inside each image: two noisy copies of a patch are positives, the other patches of its image the negatives.

    No other image enters the loss: what is learned tells places of one image apart, and can be learned from a single image.

    Parameters
    ----------
    backbone, projector, normalize
        See `Method`.
    temperature
        Of the softmax over cosines, > 0.
    noise
        Standard deviation of the noise in grey levels of the 0..255 scale, > 0.

    References
    ----------
    Bordes, Balestriero, Vincent, arXiv 2303.01986.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        normalize: Normalize,
        temperature: float = 0.5,
        noise: float = 16.0,
    ):
        super().__init__(backbone, projector, normalize)
        if not temperature > 0:
            raise ConfigError(f"SimCLR: temperature must be positive, got {temperature}.")
        self.temperature = temperature
        self.noise = GaussianNoise(noise, normalize)

    def noisy_embeddings(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) images to the (N, D) embeddings of noisy copies."""
        return self.projector(self.features(self.noise(images)))

    def forward(self, views: Tensor) -> tuple[Tensor, Logs]:
        """Loss of (B, V, 3, H, W) patches, V >= 2, in float32: NT-Xent of each image's patches, averaged over images."""
        if views.shape[1] < 2:
            raise ConfigError("instance-level SimCLR tells patches of one image apart: it needs at least 2 views, got 1.")
        copies = torch.stack([self.encode(views, self.noisy_embeddings) for _ in range(2)], dim=2)  # (B, V, 2, D)
        with torch.autocast(views.device.type, enabled=False):
            copies = copies.float()
            loss = torch.vmap(partial(nt_xent, temperature=self.temperature))(copies).mean()
            cosine = torch.cosine_similarity(copies[:, :, 0].detach(), copies[:, :, 1].detach(), dim=2).mean()
        return loss, {"positive_cosine": cosine}
