"""Views that the evaluation protocols encode."""

from collections.abc import Sequence
from typing import Any

import torch

from ffcv_ssl.evaluate.configs import Configs
from ffcv_ssl.evaluate.encoding import Encoder, Features
from ffcv_ssl.evaluate.features import Evaluation
from ffcv_ssl.ssl import Method
from ffcv_ssl.train.config import EvalConfig
from ffcv_ssl.train.network import frozen, num_features
from ffcv_ssl.train.views import Views
from ffcv_ssl.transforms import FixedPatchCrop, MultiView, RandomHorizontalFlip
from ffcv_ssl.transforms.crop import Crop

GRID = 9  # patches along each side of an image
# Fraction of the image's area that a grid patch covers if the training has no patches: EMP-SSL's
# 16 of 32 pixels.
DEFAULT_PATCH = 0.25


def encode(
    method: Method,
    c: Configs,
    config: EvalConfig,
    views: str,
    num_views: int,
    device: torch.device,
    precision: str,
) -> Features:
    """Return the features of both files: the mean over the views of each image.

    Parameters
    ----------
    method
        Method on `device`.
    c
        Configuration of the run.
    config
        Batch size of the evaluation.
    views, num_views
        Views of each image and their number; see `Protocol`.
    device, precision
        Device and precision of the encoding.

    Returns
    -------
    Features
        Features and class indices of both files.
    """

    def mean_over(kind: str, count: int, encoder: Encoder) -> Features:
        with open_views(c, config, kind, count, device, precision) as evaluation:
            return evaluation.features(encoder)

    with frozen(method):
        if views == "whole":
            return mean_over(views, 1, method.features)
        if views != "mixed":
            return mean_over(views, num_views, bag_encoder(method))
        whole = mean_over("whole", 1, method.features)
        random = mean_over("training", num_views - 1, method.features)
        train, val = (
            (one + (num_views - 1) * mean) / num_views
            for one, mean in zip(whole[::2], random[::2], strict=True)
        )
        return Features(train, whole.train_labels, val, whole.val_labels)


def bag_encoder(method: Method) -> Encoder:
    """Return the encoder whose features are averaged over a bag of views.

    Parameters
    ----------
    method
        Trained method.

    Returns
    -------
    Callable
        `method.patch_features` if the method has it, else `method.features`.
    """
    encoder: Encoder = getattr(method, "patch_features", method.features)
    return encoder


def num_patch_features(method: Method) -> int:
    """Return the length of the features of `bag_encoder`."""
    return int(getattr(method, "num_patch_features", num_features(method.backbone)))


def open_views(
    c: Configs,
    config: EvalConfig,
    views: str,
    num_views: int,
    device: torch.device,
    precision: str,
) -> Evaluation:
    """Open an evaluation on the views of a protocol.

    Parameters
    ----------
    c
        Configuration of the run. Random views use its seed + 1.
    config
        Scores to compute, and the batch size.
    views
        Views of each image, "whole", "training", "clean" or "grid"; see `Protocol`.
    num_views
        Number of views of each image.
    device, precision
        Device and precision of the encoding.

    Returns
    -------
    Evaluation
        Open evaluation, which the caller closes.

    Raises
    ------
    ConfigError
        If a file has no labels, or their classes do not match; see `match_classes`.
    """
    if views == "whole":
        pipeline = c.view.whole()
    elif views == "grid":
        pipeline = grid(c.view)
    else:
        pipeline = c.view.pipeline(c.view.size, num_views)
        pipeline = without_color(pipeline) if views == "clean" else pipeline
    seed = c.train.seed + 1
    return Evaluation(c.data, config, pipeline, device, precision, num_views=num_views, seed=seed)


def without_color(pipeline: Sequence[Any]) -> list[Any]:
    """Return a pipeline of views with only their crops and flips."""
    kept = (Crop, RandomHorizontalFlip)
    return [
        MultiView([[step for step in view if isinstance(step, kept)] for view in views])
        for views in pipeline
    ]


def grid(view: Views) -> list[Any]:
    """Return a pipeline of patches at `GRID` x `GRID` evenly spaced positions.

    The patches have the size of the training's patches and are resized like them. In an image of 32
    pixels, patches of 16 pixels are 2 pixels apart.
    """
    patch = getattr(view, "patch", DEFAULT_PATCH)
    positions = [i / (GRID - 1) for i in range(GRID)]
    crops = [
        FixedPatchCrop(view.size, patch=patch, place=(down, right))
        for down in positions
        for right in positions
    ]
    return [MultiView([[crop] for crop in crops])]
