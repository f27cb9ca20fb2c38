"""FFCV 1.0.2 and FFCV-SSL, which share the module name `ffcv`.

`--flavor=ffcv` or `--flavor=ffcv-ssl` selects the package. Both decode an image once per view, with
one pipeline per view. Pipelines take minutes to compile. Above `MAX_PIPELINES`, fewer pipelines run
over repeated sample ids, which is the same work.
"""

import math
import sys
from typing import Any

import numpy as np
import torch  # noqa: F401 (imported first, so that its import is not timed)
from protocol import Absent, Batches, need, serve
from stored import StoredImages

MAX_PIPELINES = 4
STOCK, SSL = "ffcv", "ffcv-ssl"


class FfcvLoader:
    """Contestant with the loader of either package."""

    def __init__(self, flavor: str):
        self.flavor = flavor
        self.lacks: list[str] = []
        self.notes: list[str] = []

    def prepare(self, job: dict[str, Any]) -> None:
        self.require_flavor()
        from ffcv.loader import Loader, OrderOption

        counts = [view["count"] for view in job["views"]]
        self.repeated = math.gcd(*counts) if sum(counts) > MAX_PIPELINES else 1
        kinds = [view for view in job["views"] for _ in range(view["count"] // self.repeated)]
        if self.repeated > 1:
            self.add_note(
                f"{len(kinds)} of {sum(counts)} pipelines, "
                f"over sample ids repeated {self.repeated} times"
            )
        pipelines, options = self.pipelines(
            job["field"], [self.operations(job, view) for view in kinds]
        )
        self.loader = Loader(
            job["path"],
            batch_size=job["batch_size"] * self.repeated,
            num_workers=job["workers"],
            order=OrderOption.RANDOM,
            seed=0,
            indices=np.repeat(sample_ids(job), self.repeated),
            drop_last=False,
            pipelines=pipelines | {name: None for name in job["fields"] if name != job["field"]},
            **options,
        )

    def batches(self) -> Batches:
        epoch = iter(self.loader)
        try:
            for views in epoch:
                yield len(views[0]) // self.repeated, list(views)
        except GeneratorExit:
            epoch.iter_ixes = iter(())  # its thread then ends after the prefetched batches
            for _ in epoch:
                pass
            epoch.join()
            raise

    def require_flavor(self) -> None:
        """Raise `Absent` if `ffcv` is missing or is the other package."""
        need(
            "ffcv",
            f"; set --peer.{'ffcv' if self.flavor == STOCK else 'ffcv_ssl_fb'}.python "
            "to a Python that has it",
        )
        if self.flavor == SSL:
            restore_scipy_name()
        import ffcv.transforms

        found = SSL if hasattr(ffcv.transforms, "RandomGrayscale") else STOCK
        if found != self.flavor:
            raise Absent(
                f"module 'ffcv' is {found}, not {self.flavor}; set the python option of this peer "
                "to another Python"
            )

    def pipelines(
        self, field: str, operations: list[list[Any]]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the loader's pipelines and options for one list of operations per view."""
        names = [field, *(f"{field}_{number}" for number in range(2, len(operations) + 1))]
        if self.flavor == SSL:
            mapper = dict.fromkeys(names[1:], field)
            return dict(zip(names, operations, strict=True)), {
                "custom_field_mapper": mapper
            } if mapper else {}
        from ffcv.pipeline import PipelineSpec

        return {
            name: PipelineSpec(field, decoder=o[0], transforms=o[1:])
            for name, o in zip(names, operations, strict=True)
        }, {}

    def operations(self, job: dict[str, Any], view: dict[str, Any]) -> list[Any]:
        """Return the operations of one view, as far as the package has them."""
        import ffcv.transforms as T
        from ffcv.fields import rgb_image as decoders

        size = (view["size"], view["size"])
        if view["crop"] == "center":
            chain = [decoders.CenterCropRGBImageDecoder(size, view["ratio"])]
        elif view["crop"] == "patch":  # a random square with the area of the patch
            fraction = view["patch"] ** 2 / self.area(job)
            chain = [
                decoders.RandomResizedCropRGBImageDecoder(
                    size, scale=(fraction, fraction), ratio=(1.0, 1.0)
                )
            ]
        else:
            chain = [decoders.RandomResizedCropRGBImageDecoder(size, scale=tuple(view["scale"]))]
        self.add_note("resize is OpenCV's INTER_AREA")
        chain += [T.RandomHorizontalFlip(view["flip"])] if view["flip"] else []
        chain += self.colors(T, view)
        return [*chain, T.ToTensor(), T.ToTorchImage()]

    def area(self, job: dict[str, Any]) -> int:
        """Return the pixels per image; all images must have the same size."""
        records = StoredImages(job["path"], job["field"], job["stored"]).records
        (area, *others) = np.unique(records["height"].astype(int) * records["width"])
        if others:
            raise Absent("no crop of fixed size, which images of different sizes need")
        return int(area)

    def colors(self, T: Any, view: dict[str, Any]) -> list[Any]:
        """Return the operations for jitter, gray, blur and solarization."""
        brightness, contrast, saturation, _ = view["jitter"]
        if self.flavor == STOCK:
            self.lack("hue", view["jitter_p"])
            self.lack("gray", view["gray"])
            self.lack("blur", view["blur"])
            self.lack("solarize", view["solarize"])
            if not view["jitter_p"]:
                return []
            steps = (
                (T.RandomBrightness, brightness),
                (T.RandomContrast, contrast),
                (T.RandomSaturation, saturation),
            )
            return [make(strength, view["jitter_p"]) for make, strength in steps]
        chain = [T.RandomColorJitter(view["jitter_p"], *view["jitter"])] if view["jitter_p"] else []
        if view["jitter_p"]:
            self.add_note("jitter in fixed order, hue as a rotation in RGB")
        chain += [T.RandomGrayscale(view["gray"])] if view["gray"] else []
        if view["blur"]:
            chain += [T.GaussianBlur(view["blur"], view["kernel"], tuple(view["sigma"]))]
            self.add_note("blur is SciPy's 2-D convolution in one Python thread")
        return chain + ([T.RandomSolarization(view["solarize"])] if view["solarize"] else [])

    def lack(self, name: str, wanted: float) -> None:
        """Record once that an operation of the job is left out."""
        if wanted and name not in self.lacks:
            self.lacks.append(name)

    def add_note(self, text: str) -> None:
        """Record a difference once."""
        if text not in self.notes:
            self.notes.append(text)


def sample_ids(job: dict[str, Any]) -> np.ndarray:
    """Return the sample ids of an epoch, which repeat the stored images."""
    return np.arange(job["num_images"], dtype="uint64") % np.uint64(job["stored"])


def restore_scipy_name() -> None:
    """Restore `scipy.signal.gaussian`, which FFCV-SSL's blur uses and SciPy 1.13 moved."""
    try:
        from scipy import signal
    except ImportError:
        return
    if not hasattr(signal, "gaussian"):
        signal.gaussian = signal.windows.gaussian


if __name__ == "__main__":
    flavor = sys.argv[1].removeprefix("--flavor=")
    packages = (
        "ffcv" if flavor == STOCK else "ffcv-ssl",
        "torch",
        "numba",
        "numpy",
        "opencv-python-headless",
        "scipy",
    )
    serve(lambda: FfcvLoader(flavor), packages)
