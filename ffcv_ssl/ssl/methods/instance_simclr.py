"""Instance-level SimCLR: distinguish the patches of one image under noise."""

from functools import partial

import torch
from torch import Tensor, nn

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl.methods.method import Logs, Method, Normalize
from ffcv_ssl.ssl.methods.simclr import nt_xent


class GaussianNoise(nn.Module):
    """Add independent Gaussian noise to every value of an image, after normalization.

    Parameters
    ----------
    std
        Standard deviation of the noise in gray levels on the 0 to 255 scale, > 0.
    normalize
        Normalization of uint8 images. It also converts gray levels to the normalized scale.

    Raises
    ------
    ConfigError
        If `std` is not positive.
    """

    def __init__(self, std: float, normalize: Normalize) -> None:
        super().__init__()
        if not std > 0:
            raise ConfigError(
                f"GaussianNoise: the standard deviation must be > 0 in gray levels, got {std}."
            )
        self.std = std
        self.normalize = normalize

    def forward(self, images: Tensor) -> Tensor:
        """Return noisy images.

        Parameters
        ----------
        images
            (N, 3, H, W) uint8, or normalized floating point.

        Returns
        -------
        (N, 3, H, W) floating point, normalized and noisy. The noise comes from torch's global
        generator.
        """
        normalized: Tensor = self.normalize(images)
        return normalized + torch.randn_like(normalized) * (self.std * self.normalize.scale)


class InstanceSimCLR(Method):
    """SimCLR within each image: the positives are two noisy copies of a patch.

    The negatives are the other patches of the same image. Other images do not enter the loss, so a
    single image is enough for training. The loss of an image is `nt_xent` of its (V, 2, D) noisy
    embeddings.

    Parameters
    ----------
    backbone
        Module that maps (N, 3, H, W) images to (N, num_features) features.
    projector
        Module that maps features to embeddings (N, D).
    normalize
        Normalization of uint8 images.
    temperature
        Temperature of the softmax over cosines, > 0.
    noise
        Standard deviation of the noise in gray levels on the 0 to 255 scale, > 0.

    Raises
    ------
    ConfigError
        If `temperature` or `noise` is not positive.

    References
    ----------
    Bordes, Balestriero and Vincent, arXiv 2303.01986. Loss: see `nt_xent`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        normalize: Normalize,
        temperature: float = 0.5,
        noise: float = 16.0,
    ) -> None:
        super().__init__(backbone, projector, normalize)
        if not temperature > 0:
            raise ConfigError(f"InstanceSimCLR: temperature must be positive, got {temperature}.")
        self.temperature = temperature
        self.noise = GaussianNoise(noise, normalize)

    def noisy_embeddings(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) images to the (N, D) embeddings of noisy copies."""
        embeddings: Tensor = self.projector(self.features(self.noise(images)))
        return embeddings

    def forward(self, views: Tensor) -> tuple[Tensor, Logs]:
        """Return the loss of a batch of patches.

        Parameters
        ----------
        views
            (B, V, 3, H, W) uint8, or normalized floating point, V >= 2: V patches of each image.

        Returns
        -------
        The scalar float32 loss, the mean over images, and the log "positive_cosine", the mean
        cosine between the two copies of a patch.

        Raises
        ------
        ConfigError
            If there is only one view.
        """
        if views.shape[1] < 2:
            raise ConfigError(
                "instance-level SimCLR contrasts patches of one image and needs at least 2 views, "
                "got 1."
            )
        copies = [self.encode(views, self.noisy_embeddings) for _ in range(2)]
        embeddings = torch.stack(copies, dim=2)  # (B, V, 2, D)
        with torch.autocast(views.device.type, enabled=False):
            embeddings = embeddings.float()
            loss = torch.vmap(partial(nt_xent, temperature=self.temperature))(embeddings).mean()
            first, second = embeddings.detach().unbind(dim=2)
            cosine = torch.cosine_similarity(first, second, dim=2).mean()
        return loss, {"positive_cosine": cosine}
