"""What the network sees, as a configuration: random crops, and how they grow over a training."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any

import torch

from ffcv_ssl.loader import Loader
from ffcv_ssl.pipeline import presets
from ffcv_ssl.pipeline.augmentation import Augmentation
from ffcv_ssl.train.config import at_least, option, read_unset, require
from ffcv_ssl.transforms import ToDevice


def delivered(pipeline: Sequence[Any], device: torch.device) -> list[Any]:
    """The pipeline, with its finished views brought to a GPU; for a CPU as it is."""
    return [*pipeline, ToDevice(device)] if device.type == "cuda" else list(pipeline)


@dataclass(frozen=True)
class Views:
    """What every method's views have in common; methods add how they are made."""

    size: int = option("side of a view in pixels", 32)
    num_views: int = option("views of each image", 2)
    image_size: int | None = option("side of the whole images of the evaluation in pixels; none: as the views", None)
    eval_ratio: float = option("share of the shorter side that the evaluation's centre crop keeps, in (0, 1]", 1.0)

    def __post_init__(self):
        read_unset(self, image_size=0)
        at_least(self, 1, "size", "image_size")
        require(self.num_views >= 1, f"num_views is at least 1, got {self.num_views}.")

    def pipeline(self, size: int, num_views: int) -> list[Any]:
        """The transforms of a training view of `size` pixels, without device."""
        raise NotImplementedError(f"{type(self).__name__} defines no views.")

    def whole(self) -> list[Any]:
        """The transforms of an evaluation's view: the whole image, or its centre."""
        return presets.plain(self.image_size or self.size, ratio=self.eval_ratio)

    def size_at(self, epoch: int) -> int:
        """Side in pixels of the views of an epoch."""
        return self.size


@dataclass(frozen=True)
class CropViews(Views):
    """What the network sees: random crops, each with its own flip, jitter, grey, blur and solarization."""

    min_scale: float = option("smallest share of the image's area that a crop covers, in (0, 1]", 0.08)
    max_scale: float = option("largest share", 1.0)
    flip: float = option("probability of a mirrored view, 0..1", 0.5)
    jitter: float = option("probability of the colour jitter, 0..1", 0.8)
    brightness: float = option("of the jitter: factors 1 - x to 1 + x, x >= 0", 0.4)
    contrast: float = option("of the jitter, like brightness", 0.4)
    saturation: float = option("of the jitter, like brightness", 0.4)
    hue: float = option("of the jitter: turns -x to x, 0 <= x <= .5", 0.1)
    gray: float = option("probability of grey, 0..1", 0.2)
    blur: float = option("probability of blur, 0..1", 0.0)
    other_blur: float | None = option("probability of blur in all views but the first; none: as in the first", None)
    solarize: float = option("probability of solarization, 0..1", 0.0)
    other_solarize: float | None = option("probability of solarization in all views but the first; none: as in the first", None)
    start_size: int | None = option("side of a view in the first epochs, in pixels; none: as later", None)
    grow_from: int = option("epoch up to which views keep start_size", 0)
    grow_to: int = option("epoch from which they have their full size; in between they grow evenly", 0)
    grow_by: int = option("views grow by so many pixels at a time", 32)

    def __post_init__(self):
        super().__post_init__()
        read_unset(self, other_blur=-1, other_solarize=-1, start_size=0)
        is_smaller = self.start_size is None or 1 <= self.start_size <= self.size
        require(is_smaller, f"start_size lies between 1 and size={self.size}, got {self.start_size}.")
        grows_later = 0 <= self.grow_from <= self.grow_to and self.grow_to > 0
        require(not self.start_size or grows_later, "start_size: views grow from epoch grow_from >= 0 to a later one, grow_to.")
        require(self.grow_by >= 1, f"grow_by is at least 1 pixel, got {self.grow_by}.")

    def pipeline(self, size: int, num_views: int) -> list[Any]:
        """The transforms of a training view; see `presets.augmented`."""

        def each(first: float, other: float | None) -> list[float]:
            return [first] + [first if other is None else other] * (num_views - 1)

        return presets.augmented(
            size,
            n=num_views,
            scale=(self.min_scale, self.max_scale),
            flip=self.flip,
            jitter=self.jitter,
            strengths=(self.brightness, self.contrast, self.saturation, self.hue),
            gray=self.gray,
            blur=each(self.blur, self.other_blur),
            solarize=each(self.solarize, self.other_solarize),
        )

    def size_at(self, epoch: int) -> int:
        """Side in pixels of the views of an epoch: from `start_size` to `size` in multiples of `grow_by`, as in FFCV-SSL."""
        if not self.start_size or epoch >= self.grow_to:
            return self.size
        if epoch <= self.grow_from:
            return self.start_size
        share = (epoch - self.grow_from) / (self.grow_to - self.grow_from)
        grown = self.start_size + share * (self.size - self.start_size)
        return min(self.size, max(self.start_size, round(grown / self.grow_by) * self.grow_by))


def views_of(augmentation: Augmentation) -> type[CropViews]:
    """Return the options of `CropViews` with a method's own numbers as defaults."""
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
    return make_dataclass("MethodViews", options, bases=(CropViews,), frozen=True, namespace=namespace)


class GrowingLoader:
    """A loader whose views change size between epochs; order and position are those of one loader.

    Parameters
    ----------
    open_loader
        Makes a loader of views of the given size; all of them over the same samples, in the same order.
    size_at
        Epoch → size of its views in pixels.
    """

    def __init__(self, open_loader: Callable[[int], Loader], size_at: Callable[[int], int]):
        self.open_loader, self.size_at = open_loader, size_at
        self.size = size_at(0)
        self.loader = open_loader(self.size)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the next epoch, of views of its size."""
        self._fit(self.size_at(self.loader.epoch))
        return iter(self.loader)

    def _fit(self, size: int) -> None:
        if size != self.size:
            epoch, state = self.loader.epoch, self.loader.state_dict()
            self.loader.close()
            self.loader, self.size = self.open_loader(size), size
            self.loader.load_state_dict(state)
            if state["epoch"] != epoch:  # the last epoch was left before its end
                self.loader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Position, as of the loader in use."""
        return self.loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a saved position."""
        self.loader.load_state_dict(state)

    def __enter__(self) -> "GrowingLoader":
        return self

    def __exit__(self, *_: object) -> None:
        self.loader.close()
