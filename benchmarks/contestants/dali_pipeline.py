"""NVIDIA DALI with its CPU operators and its own threads; no GPU is needed.

JPEGs come from memory through `external_source` (no file system in between), which also ends an epoch cleanly: a reader would begin the
next one before the clock has stopped.
"""

# ruff: noqa: SIM102 (the inner condition is DALI's, decided per sample; the outer one is decided when the graph is built)

import numpy as np
from protocol import Batches, need, serve
from stored import StoredImages

TURN = 360.0  # degrees
SOLARIZE_FROM = 128


class Dali:
    """A DALI pipeline."""

    def __init__(self):
        self.lacks: list[str] = []
        self.notes: list[str] = []

    def prepare(self, job: dict) -> None:
        for module in ("nvidia", "nvidia.dali"):
            need(module, ": --peer.dali.python=… names one that has DALI")
        from nvidia.dali import fn, pipeline_def, types

        images = StoredImages(job["path"], job["field"], job["stored"])
        # Stored pixels cost nothing to decode: a sample per view is then the same work in a smaller graph.
        self.repeated = job["num_views"] if images.is_raw and len(job["views"]) == 1 else 1
        if self.repeated > 1:
            self.notes.append("a sample per view")
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
        def graph():
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
            while self.next_views() is not None:  # the batches that are under way
                pass
            raise

    def next_views(self) -> tuple | None:
        """The next batch, or None at the end of the epoch."""
        try:
            return self.pipe.run()
        except StopIteration:
            self.pipe.reset()
            return None


class ShapeOnly:
    """A batch of DALI with the names that arrays have; the memory stays DALI's."""

    def __init__(self, tensor):
        self.tensor = tensor
        self.shape = tuple(tensor.shape())
        self.dtype = np.dtype(np.uint8)


class ShuffledEpochs:
    """Batches of stored images in a new random order each epoch, ended by StopIteration.

    An epoch has `count` images, the stored ones again and again; `is_ended` ends it early.
    """

    def __init__(self, images: StoredImages, count: int, batch_size: int, repeated: int):
        values = [images.stored(index).copy() for index in range(len(images))]
        self.values = (
            np.stack(values) if repeated > 1 else values
        )  # one array for a batch spares DALI a copy per sample
        self.count, self.batch_size, self.repeated = count, batch_size, repeated
        self.rng = np.random.default_rng(0)

    def __iter__(self):
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


def render(fn, types, view: dict, stored, decoded):
    """One view, (3, S, S) uint8; the flip is fused with the change of layout, as DALI's own examples do."""
    size = view["size"]
    if view["crop"] == "center":
        shape = fn.cast(decoded.shape(), dtype=types.FLOAT)
        side = fn.reductions.min(shape[:2]) * view["ratio"]
        image = fn.crop(decoded, crop_h=side, crop_w=side)
        image = fn.resize(image, size=(size, size))
    elif view["crop"] == "patch":
        place = {
            "crop_pos_x": fn.random.uniform(range=(0, 1)),
            "crop_pos_y": fn.random.uniform(range=(0, 1)),
        }
        image = fn.resize(
            fn.crop(decoded, crop=(view["patch"], view["patch"]), **place), size=(size, size)
        )
    elif decoded is None:  # a single view: only its region is decoded
        image = fn.decoders.image_random_crop(
            stored, device="cpu", output_type=types.RGB, random_area=view["scale"]
        )
        image = fn.resize(image, size=(size, size))
    else:
        image = fn.random_resized_crop(decoded, size=(size, size), random_area=view["scale"])
    image = colours(fn, types, view, image)
    mirror = fn.random.coin_flip(probability=view["flip"]) if view["flip"] else 0
    return fn.crop_mirror_normalize(image, dtype=types.UINT8, output_layout="CHW", mirror=mirror)


def colours(fn, types, view: dict, image):
    """Jitter, grey, blur and solarization, each only for the samples that are drawn for it."""
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


def chosen(fn, types, p: float):
    """A coin for every sample."""
    return fn.random.coin_flip(probability=p, dtype=types.BOOL)


if __name__ == "__main__":
    serve(Dali, ("nvidia-dali-cuda120", "numpy"))
