"""Workloads: stored images and their views, described independently of any contestant."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ffcv_ssl.benchmarks.images import Images
from ffcv_ssl.errors import ConfigError


@dataclass(frozen=True)
class View:
    """`count` views of an image with the same augmentation.

    A step with probability 0 is left out.

    Parameters
    ----------
    size
        Side of the view, pixels.
    count
        Number of views.
    crop
        `"area"`: torchvision's `RandomResizedCrop` with `scale` and aspect ratios 3/4 to 4/3.
        `"patch"`: a random square of `patch` pixels. `"center"`: the central square of `ratio`
        times the shorter side.
    scale
        Range of the area of the crop, as a fraction of the image.
    patch
        Side of the patch, pixels.
    ratio
        Side of the central square, as a fraction of the shorter side.
    flip, jitter_p, gray, blur, solarize
        Probabilities, in [0, 1].
    jitter
        Strengths of brightness, contrast, saturation (factors 1 ± strength) and hue (turns).
    kernel, sigma
        Gaussian blur: full width in pixels, range of the standard deviation in pixels.
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
    """Number and length of the measured epochs.

    Parameters
    ----------
    count
        Timed epochs per contestant.
    images
        Minimum number of images per epoch (>= 1). Each stored image appears equally often.
    seconds
        Time after which an epoch ends early; `contestants/protocol.py` defines the rule.
    """

    count: int
    images: int = 4000
    seconds: float = 5.0

    def num_images(self, stored: int) -> int:
        """Return the images per epoch: the smallest sufficient multiple of the stored images."""
        return stored * math.ceil(self.images / stored)


@dataclass(frozen=True)
class Workload:
    """One measurement.

    Parameters
    ----------
    name
        Identifier in options and in the JSON file.
    title
        Label in the tables.
    source
        `"photos"`: JPEGs. `"patches"`: small images stored as pixels.
    views
        Views to render of each image.
    batch_size
        Images per batch.
    train
        Arguments of the training step that consumes the batches, or None.
    only
        Keys of the contestants that take part. None: all.
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
        """Number of views per image."""
        return sum(view.count for view in self.views)

    def job(self, images: Images, workers: int, epochs: Epochs) -> dict[str, Any]:
        """Return the JSON-serializable description that a contestant's program receives.

        Parameters
        ----------
        images
            Images to load.
        workers
            Threads or worker processes (>= 1).
        epochs
            Number and length of the epochs.

        Raises
        ------
        ConfigError
            If an epoch is a single batch. The rate counts only the batches after the first one.
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
STEP_TITLE = "step by step: "
CHAIN_STEPS: dict[str, View] = {"crop": View(224)}
_changes: tuple[tuple[str, dict[str, Any]], ...] = (
    ("flip", {"flip": 0.5}),
    ("grey", {"gray": 0.2}),
    ("jitter", {"jitter_p": 0.8}),
    ("blur", {"blur": 0.5}),
    ("solarize", {"solarize": 0.2}),
)
for _step, _change in _changes:
    CHAIN_STEPS[_step] = replace([*CHAIN_STEPS.values()][-1], **_change)

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
                STEP_TITLE + ("" if step == "crop" else "+ ") + step.replace("grey", "gray"),
                "photos",
                (view,),
            )
            for step, view in CHAIN_STEPS.items()
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
STEPWISE = tuple(f"ladder_{step}" for step in CHAIN_STEPS)  # each adds one step to the previous one
GROUPS = {"ladder": STEPWISE}
