"""The ffcv_ssl loader, with threads in this process. `FFCV_SSL_DECODER` selects the decoder."""

import os
from contextlib import closing
from typing import Any

import numpy as np
import torch  # noqa: F401 (imported first, so that its import is not timed)
from protocol import Absent, Batches, serve


def view_transforms(view: dict[str, Any]) -> list[Any]:
    """Return the transforms of one view."""
    from ffcv_ssl import transforms as T

    size = view["size"]
    if view["crop"] == "center":
        chain: list[Any] = [T.CenterCrop(size, ratio=view["ratio"])]
    elif view["crop"] == "patch":
        chain = [T.RandomPatchCrop(size, patch=view["patch"])]
    else:
        chain = [T.RandomResizedCrop(size, scale=tuple(view["scale"]))]
    chain += [T.RandomHorizontalFlip(view["flip"])] if view["flip"] else []
    chain += [T.RandomColorJitter(view["jitter_p"], *view["jitter"])] if view["jitter_p"] else []
    chain += [T.RandomGrayscale(view["gray"])] if view["gray"] else []
    chain += (
        [T.GaussianBlur(view["blur"], view["kernel"], tuple(view["sigma"]))] if view["blur"] else []
    )
    return chain + ([T.RandomSolarization(view["solarize"])] if view["solarize"] else [])


def pipeline(job: dict[str, Any]) -> list[Any]:
    """Return the pipeline of all views of a job."""
    from ffcv_ssl.transforms import MultiView

    if job["num_views"] == 1:
        return view_transforms(job["views"][0])
    return [
        MultiView([view_transforms(view) for view in job["views"] for _ in range(view["count"])])
    ]


class Ours:
    """Contestant with the loader of this package."""

    def __init__(self) -> None:
        self.lacks: list[str] = []
        self.notes: list[str] = []

    def prepare(self, job: dict[str, Any]) -> None:
        require_decoder()
        from ffcv_ssl.loader import Loader, OrderOption

        self.loader = Loader(
            job["path"],
            batch_size=job["batch_size"],
            num_workers=job["workers"],
            order=OrderOption.RANDOM,
            seed=0,
            indices=np.arange(job["num_images"]) % job["stored"],
            drop_last=False,
            pipelines={
                name: pipeline(job) if name == job["field"] else None for name in job["fields"]
            },
            **job["loader"],
        )

    def batches(self) -> Batches:
        with closing(iter(self.loader)) as epoch:
            for batch in epoch:
                views = batch[0]
                views = list(views) if isinstance(views, tuple) else [views]
                yield len(views[0]), views


def require_decoder() -> None:
    """Raise `Absent` if the native decoder is selected but was not built."""
    if os.environ.get("FFCV_SSL_DECODER") == "native":
        try:
            from ffcv_ssl.codecs import native
        except ImportError:
            raise Absent("the native decoder was not built") from None
        if not native.decode_address():
            raise Absent("the native decoder was not built")


if __name__ == "__main__":
    serve(Ours, ("ffcv_ssl", "torch", "numba", "numpy", "simplejpeg"))
