"""NVIDIA DALI with its CPU operators and its own threads. It needs no GPU.

JPEGs come from memory through `external_source`, without a file system. It also ends an epoch
cleanly: a DALI reader would start the next epoch before the clock stops.
"""

# DALI evaluates the inner conditions per sample; Python evaluates the outer ones once.
# ruff: noqa: SIM102

from collections.abc import Iterator
from typing import Any

import numpy as np
from protocol import Batches, need, serve
from stored import StoredImages

TURN = 360.0  # degrees
SOLARIZE_FROM = 128


class Dali:
    """Contestant with a DALI pipeline."""

    def __init__(self) -> None:
        self.lacks: list[str] = []
        self.notes: list[str] = []

    def prepare(self, job: dict[str, Any]) -> None:
        for module in ("nvidia", "nvidia.dali"):
            need(module, "; set --peer.dali.python to a Python with DALI")
        from nvidia.dali import fn, pipeline_def, types

        images = StoredImages(job["path"], job["field"], job["stored"])
        # Stored pixels need no decode, so a sample per view is the same work in a smaller graph.
        self.repeated = job["num_views"] if images.is_raw and len(job["views"]) == 1 else 1
        if self.repeated > 1:
            self.notes.append("one sample per view")
        if any(view["jitter_p"] for view in job["views"]):
            self.notes.append("jitter in fixed order, hue as a rotation in YIQ")
        source = ShuffledEpochs(images, job["num_images"], job["batch_size"], self.repeated)
        self.source = source
        kinds = [view for view in job["views"] for _ in range(view["count"])][:: self.repeated]

        @pipeline_def(
            batch_size=job["batch_size"] * self.repeated,
            num_threads=job["workers"],
            device_id=None,
            enable_conditionals=True,
        )
        def graph() -> tuple[Any, ...]:
            stored = fn.external_source(
                source, batch=True, cycle="raise", dtype=types.UINT8, ndim=3 if images.is_raw else 1
            )
            decoded = stored if images.is_raw else None
            if not images.is_raw and (len(kinds) > 1 or kinds[0]["crop"] != "area"):
                decoded = fn.decoders.image(stored, device="cpu", output_type=types.RGB)
            return tuple(render(fn, types, view, stored, decoded) for view in kinds)

        self.pipe = graph()
        self.pipe.build()

    def batches(self) -> Batches:
        try:
            while (views := self.next_views()) is not None:
                tensors = [ShapeOnly(view.as_tensor()) for view in views]
                yield len(views[0]) // self.repeated, tensors
        except GeneratorExit:
            self.source.is_ended = True
            while self.next_views() is not None:  # drain the prefetched batches
                pass
            raise

    def next_views(self) -> tuple[Any, ...] | None:
        """Return the next batch, or None at the end of the epoch."""
        try:
            return self.pipe.run()
        except StopIteration:
            self.pipe.reset()
            return None


class ShapeOnly:
    """Shape and dtype of a DALI batch under NumPy's attribute names, without a copy."""

    def __init__(self, tensor: Any):
        self.tensor = tensor
        self.shape = tuple(tensor.shape())
        self.dtype = np.dtype(np.uint8)


class ShuffledEpochs:
    """Batches of stored images in a new random order each epoch.

    An epoch repeats the stored images up to `count` images. Setting `is_ended` ends it early.
    """

    def __init__(self, images: StoredImages, count: int, batch_size: int, repeated: int):
        values = [images.stored(index).copy() for index in range(len(images))]
        self.values = (
            np.stack(values) if repeated > 1 else values
        )  # a batch as one array saves a copy per sample
        self.count, self.batch_size, self.repeated = count, batch_size, repeated
        self.rng = np.random.default_rng(0)

    def __iter__(self) -> Iterator[Any]:
        self.order = self.rng.permutation(self.count) % len(self.values)
        self.position, self.is_ended = 0, False
        return self

    def __next__(self) -> list[np.ndarray] | np.ndarray:
        chosen = self.order[self.position : self.position + self.batch_size]
        if self.is_ended or not len(chosen):
            raise StopIteration
        self.position += self.batch_size
        return (
            np.repeat(self.values[chosen], self.repeated, axis=0)
            if self.repeated > 1
            else [self.values[index] for index in chosen]
        )


def render(fn: Any, types: Any, view: dict[str, Any], stored: Any, decoded: Any) -> Any:
    """Render one view, (3, S, S) uint8; flip and layout change are fused, as in DALI's examples."""
    size = view["size"]
    if view["crop"] == "center":
        shape = fn.cast(decoded.shape(), dtype=types.FLOAT)
        side = fn.reductions.min(shape[:2]) * view["ratio"]
        image = fn.crop(decoded, crop_h=side, crop_w=side)
        image = fn.resize(image, size=(size, size))
    elif view["crop"] == "patch":
        anchor = {
            "crop_pos_x": fn.random.uniform(range=(0, 1)),
            "crop_pos_y": fn.random.uniform(range=(0, 1)),
        }
        image = fn.resize(
            fn.crop(decoded, crop=(view["patch"], view["patch"]), **anchor), size=(size, size)
        )
    elif decoded is None:  # a single view: decode only its region
        image = fn.decoders.image_random_crop(
            stored, device="cpu", output_type=types.RGB, random_area=view["scale"]
        )
        image = fn.resize(image, size=(size, size))
    else:
        image = fn.random_resized_crop(decoded, size=(size, size), random_area=view["scale"])
    image = colors(fn, types, view, image)
    mirror = fn.random.coin_flip(probability=view["flip"]) if view["flip"] else 0
    return fn.crop_mirror_normalize(image, dtype=types.UINT8, output_layout="CHW", mirror=mirror)


def colors(fn: Any, types: Any, view: dict[str, Any], image: Any) -> Any:
    """Apply jitter, gray, blur and solarization, each only to the samples drawn for it."""
    if view["jitter_p"]:
        brightness, contrast, saturation, hue = view["jitter"]
        if chosen(fn, types, view["jitter_p"]):
            image = fn.color_twist(
                image,
                brightness=fn.random.uniform(range=(1 - brightness, 1 + brightness)),
                contrast=fn.random.uniform(range=(1 - contrast, 1 + contrast)),
                saturation=fn.random.uniform(range=(1 - saturation, 1 + saturation)),
                hue=fn.random.uniform(range=(-hue * TURN, hue * TURN)),
            )
    if view["gray"]:
        if chosen(fn, types, view["gray"]):
            image = fn.color_twist(image, saturation=0.0)
    if view["blur"]:
        if chosen(fn, types, view["blur"]):
            image = fn.gaussian_blur(
                image,
                window_size=view["kernel"],
                sigma=fn.random.uniform(range=tuple(view["sigma"])),
            )
    if view["solarize"]:
        if chosen(fn, types, view["solarize"]):
            inverted = fn.cast(image >= SOLARIZE_FROM, dtype=types.UINT8)
            image = fn.cast(inverted * (255 - image) + (1 - inverted) * image, dtype=types.UINT8)
    return image


def chosen(fn: Any, types: Any, p: float) -> Any:
    """Draw a Boolean with probability `p` for every sample."""
    return fn.random.coin_flip(probability=p, dtype=types.BOOL)


if __name__ == "__main__":
    serve(Dali, ("nvidia-dali-cuda120", "numpy"))
