"""Configuration of the views of a training."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any

import torch

from ffcv_ssl.pipeline import presets
from ffcv_ssl.pipeline.augmentation import Augmentation
from ffcv_ssl.train.config import at_least, option, read_unset, require
from ffcv_ssl.transforms import ToDevice


def delivered(pipeline: Sequence[Any], device: torch.device) -> list[Any]:
    """Return a pipeline that delivers its views to a device.

    Parameters
    ----------
    pipeline
        Transforms of an image field, without a device.
    device
        Device of the views.

    Returns
    -------
    list
        The transforms, followed by `ToDevice` for a GPU.
    """
    return [*pipeline, ToDevice(device)] if device.type == "cuda" else list(pipeline)


@dataclass(frozen=True)
class Views:
    """Views of each image; the base class of the views of a method."""

    size: int = option("Side length of a view in pixels, >= 1", 32)
    num_views: int = option("Number of views of each image, >= 1", 2)
    image_size: int | None = option(
        "Side length in pixels of the whole images in the evaluation, >= 1; none: view.size", None
    )
    eval_ratio: float = option(
        "Fraction of the shorter side that the center crop of the evaluation keeps, in (0, 1]", 1.0
    )

    def __post_init__(self) -> None:
        read_unset(self, image_size=0)
        at_least(self, 1, "size", "image_size", "num_views")

    def pipeline(self, size: int, num_views: int) -> list[Any]:
        """Return the transforms of the training views, without a device.

        Parameters
        ----------
        size
            Side length of a view in pixels.
        num_views
            Number of views of each image.

        Returns
        -------
        list
            Transforms for the image field of a loader.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement pipeline().")

    def whole(self) -> list[Any]:
        """Return the transforms of the evaluation: a center crop of the whole image.

        Returns
        -------
        list
            Transforms for the image field of a loader, without a device.
        """
        return presets.plain(self.image_size or self.size, ratio=self.eval_ratio)

    def size_at(self, epoch: int) -> int:
        """Return the side length in pixels of the views of an epoch.

        Parameters
        ----------
        epoch
            Index of the epoch, >= 0.

        Returns
        -------
        int
            Side length in pixels.
        """
        return self.size


@dataclass(frozen=True)
class CropViews(Views):
    """Random crops of each image, each with its own flip, jitter, blur, gray and solarization."""

    min_scale: float = option(
        "Smallest fraction of the image's area that a crop covers, in (0, 1]", 0.08
    )
    max_scale: float = option(
        "Largest fraction of the image's area that a crop covers, in (0, 1]", 1.0
    )
    flip: float = option("Probability of a horizontal flip, in [0, 1]", 0.5)
    jitter: float = option("Probability of the color jitter, in [0, 1]", 0.8)
    brightness: float = option(
        "Brightness strength x of the color jitter, >= 0: a factor from 1 - x to 1 + x", 0.4
    )
    contrast: float = option(
        "Contrast strength x of the color jitter, >= 0: a factor from 1 - x to 1 + x", 0.4
    )
    saturation: float = option(
        "Saturation strength x of the color jitter, >= 0: a factor from 1 - x to 1 + x", 0.4
    )
    hue: float = option(
        "Hue strength x of the color jitter, in [0, 0.5]: a shift from -x to x of the full circle",
        0.1,
    )
    gray: float = option("Probability of a conversion to gray, in [0, 1]", 0.2)
    blur: float = option("Probability of a Gaussian blur, in [0, 1]", 0.0)
    other_blur: float | None = option(
        "Probability of a Gaussian blur of all views but the first, in [0, 1]; none: view.blur",
        None,
    )
    solarize: float = option("Probability of solarization, in [0, 1]", 0.0)
    other_solarize: float | None = option(
        "Probability of solarization of all views but the first, in [0, 1]; none: view.solarize",
        None,
    )
    start_size: int | None = option(
        "Side length in pixels of the views in the first epochs, at most view.size; none: constant "
        "size",
        None,
    )
    grow_from: int = option("Epoch until which the views keep view.start_size, >= 0", 0)
    grow_to: int = option(
        "Epoch from which the views have view.size; they grow linearly from view.grow_from on", 0
    )
    grow_by: int = option("Step in pixels by which the views grow, >= 1", 32)

    def __post_init__(self) -> None:
        super().__post_init__()
        read_unset(self, other_blur=-1, other_solarize=-1, start_size=0)
        is_smaller = self.start_size is None or 1 <= self.start_size <= self.size
        require(
            is_smaller,
            f"start_size must be between 1 and size={self.size}, got {self.start_size}.",
        )
        grows_later = 0 <= self.grow_from <= self.grow_to and self.grow_to > 0
        require(
            not self.start_size or grows_later,
            "start_size needs 0 <= grow_from <= grow_to and grow_to >= 1, "
            f"got grow_from={self.grow_from} and grow_to={self.grow_to}.",
        )
        at_least(self, 1, "grow_by")

    def pipeline(self, size: int, num_views: int) -> list[Any]:
        """Return the transforms of the training views; see `presets.augmented`.

        Parameters
        ----------
        size
            Side length of a view in pixels.
        num_views
            Number of views of each image.

        Returns
        -------
        list
            Transforms for the image field of a loader, without a device.
        """

        def per_view(first: float, other: float | None) -> list[float]:
            return [first] + [first if other is None else other] * (num_views - 1)

        return presets.augmented(
            size,
            n=num_views,
            scale=(self.min_scale, self.max_scale),
            flip=self.flip,
            jitter=self.jitter,
            strengths=(self.brightness, self.contrast, self.saturation, self.hue),
            gray=self.gray,
            blur=per_view(self.blur, self.other_blur),
            solarize=per_view(self.solarize, self.other_solarize),
        )

    def size_at(self, epoch: int) -> int:
        """Return the side length in pixels of the views of an epoch.

        The size grows linearly from `start_size` to `size`, in multiples of `grow_by`, as in
        FFCV-SSL.

        Parameters
        ----------
        epoch
            Index of the epoch, >= 0.

        Returns
        -------
        int
            Side length in pixels.

        Examples
        --------
        >>> views = CropViews(size=64, start_size=32, grow_from=1, grow_to=5, grow_by=8)
        >>> [views.size_at(epoch) for epoch in range(7)]
        [32, 32, 40, 48, 56, 64, 64]
        """
        if not self.start_size or epoch >= self.grow_to:
            return self.size
        if epoch <= self.grow_from:
            return self.start_size
        fraction = (epoch - self.grow_from) / (self.grow_to - self.grow_from)
        grown = self.start_size + fraction * (self.size - self.start_size)
        return min(self.size, max(self.start_size, round(grown / self.grow_by) * self.grow_by))


def views_of(augmentation: Augmentation) -> type[CropViews]:
    """Return a subclass of `CropViews` with the defaults of a method.

    Parameters
    ----------
    augmentation
        Published augmentation of the method.

    Returns
    -------
    type[CropViews]
        Configuration section whose defaults reproduce `augmentation`.
    """
    both = (augmentation.blur, augmentation.solarize)
    blur, solarize = ((p, None) if isinstance(p, (int, float)) else tuple(p) for p in both)
    names = "brightness", "contrast", "saturation", "hue"
    defaults = {
        "min_scale": augmentation.scale[0],
        "max_scale": augmentation.scale[1],
        "flip": augmentation.flip,
        "jitter": augmentation.jitter,
        **dict(zip(names, augmentation.strengths, strict=True)),
        "gray": augmentation.gray,
        "blur": blur[0],
        "other_blur": blur[1],
        "solarize": solarize[0],
        "other_solarize": solarize[1],
    }
    options = [
        (each.name, each.type, field(default=defaults[each.name], metadata=each.metadata))
        for each in fields(CropViews)
        if each.name in defaults
    ]
    namespace = {"__doc__": CropViews.__doc__, "__module__": __name__}
    return make_dataclass(
        "MethodViews", options, bases=(CropViews,), frozen=True, namespace=namespace
    )
