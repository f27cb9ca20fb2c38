"""What is measured: which stored images, and which views of them, in words that every contestant's program understands."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ffcv_ssl.benchmarks.images import Images
from ffcv_ssl.errors import ConfigError


@dataclass(frozen=True)
class View:
    """`count` equal views of an image. Probabilities of 0 leave a step out.

    Parameters
    ----------
    size
        Side of the view, pixels.
    crop
        "area": torchvision's RandomResizedCrop with `scale` and aspect ratios 3/4 to 4/3. "patch": `patch`² pixels anywhere. "center":
        the central square of `ratio` times the shorter side.
    jitter
        Strengths of brightness, contrast, saturation (factors 1 ± strength) and hue (turns).
    kernel, sigma
        Of the Gaussian blur: full width in pixels, range of the standard deviation.
    """

    size: int
    count: int = 1
    crop: Literal["area", "patch", "center"] = "area"
    scale: tuple[float, float] = (0.08, 1.0)
    patch: int = 0
    ratio: float = 224 / 256
    flip: float = 0.0
    jitter_p: float = 0.0
    jitter: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2)
    gray: float = 0.0
    blur: float = 0.0
    kernel: int = 23
    sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0


@dataclass(frozen=True)
class Epochs:
    """How much is measured.

    Parameters
    ----------
    count
        Timed epochs of every contestant.
    images
        Images of an epoch, at least, >= 1. All stored images come equally often.
    seconds
        A contestant's epoch ends early when it has taken this long; `contestants/protocol.py` has
        the rule.
    """

    count: int
    images: int = 4000
    seconds: float = 5.0

    def num_images(self, stored: int) -> int:
        """Images of an epoch: the fewest whole repetitions of the stored ones that are enough."""
        return stored * math.ceil(self.images / stored)


@dataclass(frozen=True)
class Workload:
    """One measurement.

    Parameters
    ----------
    source
        "photos": JPEGs. "patches": small images stored as pixels.
    views
        What is made of every image.
    batch_size
        Images per batch.
    train
        Arguments of the training step that takes the batches, or None.
    only
        Contestants that take part; None: all.
    """

    name: str
    title: str
    source: Literal["photos", "patches"]
    views: tuple[View, ...]
    batch_size: int = 32
    train: Mapping[str, int] | None = None
    only: tuple[str, ...] | None = None

    @property
    def num_views(self) -> int:
        """Views of one image."""
        return sum(view.count for view in self.views)

    def job(self, images: Images, workers: int, epochs: Epochs) -> dict[str, Any]:
        """What a contestant's program is told, fit for JSON.

        Raises
        ------
        ConfigError
            If an epoch is one batch: its rate is that of the batches behind the first one.
        """
        num_images = epochs.num_images(images.count)
        if num_images <= self.batch_size:
            raise ConfigError(
                f"{self.name}: an epoch of {num_images} images is one batch of {self.batch_size}; "
                f"raise run.epoch_images above {self.batch_size}."
            )
        return {
            "path": str(images.path),
            "field": images.field,
            "fields": images.fields,
            "stored": images.count,
            "num_images": num_images,
            "epoch_s": epochs.seconds,
            "views": [asdict(view) for view in self.views],
            "num_views": self.num_views,
            "batch_size": self.batch_size,
            "workers": workers,
            "loader": {},
            "train": None if self.train is None else {**self.train, "threads": workers},
        }


CROP = View(224, flip=0.5)
SIMCLR = replace(CROP, jitter_p=0.8, gray=0.2, blur=0.5)
SMALL = replace(SIMCLR, size=96, kernel=9)
PATCH = View(
    32,
    crop="patch",
    patch=16,
    flip=0.5,
    jitter_p=0.8,
    jitter=(0.4, 0.4, 0.4, 0.2),
    gray=0.2,
    blur=0.1,
    kernel=13,
    solarize=0.1,
)
LADDER: dict[str, View] = {"crop": View(224)}
for _step, _change in (
    ("flip", {"flip": 0.5}),
    ("grey", {"gray": 0.2}),
    ("jitter", {"jitter_p": 0.8}),
    ("blur", {"blur": 0.5}),
    ("solarize", {"solarize": 0.2}),
):
    LADDER[_step] = replace([*LADDER.values()][-1], **_change)

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("crop1", "one view of 224: crop, flip", "photos", (CROP,)),
        Workload(
            "simclr2_noblur",
            "SimCLR, two views of 224, without blur",
            "photos",
            (replace(SIMCLR, count=2, blur=0.0),),
        ),
        Workload(
            "simclr2", "SimCLR, two views of 224, full chain", "photos", (replace(SIMCLR, count=2),)
        ),
        Workload(
            "multicrop",
            "multi-crop, two views of 224 and six of 96",
            "photos",
            (
                replace(SIMCLR, count=2, scale=(0.14, 1.0)),
                replace(SMALL, count=6, scale=(0.05, 0.14)),
            ),
            batch_size=16,
        ),
        Workload(
            "linear", "linear probe, central crop of 224", "photos", (View(224, crop="center"),)
        ),
        Workload(
            "emp20",
            "EMP-SSL, 20 patches 16→32",
            "patches",
            (replace(PATCH, count=20),),
            batch_size=100,
        ),
        Workload(
            "emp200",
            "EMP-SSL, 200 patches 16→32",
            "patches",
            (replace(PATCH, count=200),),
            batch_size=10,
        ),
        *(
            Workload(
                f"ladder_{step}",
                f"ladder: {'' if step == 'crop' else '+ '}{step}",
                "photos",
                (view,),
            )
            for step, view in LADDER.items()
        ),
        Workload(
            "train2",
            "SimCLR step of a small ResNet behind two views of 96",
            "photos",
            (replace(SMALL, count=2),),
            train={"width": 8},
            only=("ours_pip", "ours_native", "torchvision"),
        ),
    )
}
GROUPS = {"ladder": tuple(f"ladder_{step}" for step in LADDER)}
