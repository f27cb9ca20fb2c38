"""FFCV 1.0.2 and FFCV-SSL, which share the module name `ffcv`: `--flavour=ffcv` or `--flavour=ffcv-ssl` says which one is wanted here.

Each decodes an image once per view. Where there would be more than `MAX_PIPELINES`, which take minutes to compile, fewer of them run over
sample ids that come several times: the same work.
"""

import math
import sys

import numpy as np
import torch  # noqa: F401 (first of all, so that its import is not counted)
from protocol import Absent, Batches, need, serve
from stored import StoredImages

MAX_PIPELINES = 4
STOCK, SSL = "ffcv", "ffcv-ssl"


class FfcvLoader:
    """The loader of either package."""

    def __init__(self, flavour: str):
        self.flavour = flavour
        self.lacks: list[str] = []
        self.notes: list[str] = []

    def prepare(self, job: dict) -> None:
        self.require_flavour()
        from ffcv.loader import Loader, OrderOption

        counts = [view["count"] for view in job["views"]]
        self.repeated = math.gcd(*counts) if sum(counts) > MAX_PIPELINES else 1
        kinds = [view for view in job["views"] for _ in range(view["count"] // self.repeated)]
        if self.repeated > 1:
            self.note(
                f"{len(kinds)} of {sum(counts)} pipelines, over sample ids that come {self.repeated} times"
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
            epoch.iter_ixes = iter(())  # its thread then ends behind the batches that are under way
            for _ in epoch:
                pass
            epoch.join()
            raise

    def require_flavour(self) -> None:
        """Raise `Absent` where `ffcv` is missing or is the other package."""
        need(
            "ffcv",
            f": --peer.{'ffcv' if self.flavour == STOCK else 'ffcv_ssl_fb'}.python=… names one that has it",
        )
        if self.flavour == SSL:
            restore_scipy_name()
        import ffcv.transforms

        found = SSL if hasattr(ffcv.transforms, "RandomGrayscale") else STOCK
        if found != self.flavour:
            raise Absent(
                f"the module 'ffcv' of its Python is {found}; --peer.….python=… names another Python"
            )

    def pipelines(self, field: str, operations: list[list]) -> tuple[dict, dict]:
        """The loader's pipelines, and its further options, for one list of operations per view."""
        names = [field, *(f"{field}_{number}" for number in range(2, len(operations) + 1))]
        if self.flavour == SSL:
            mapper = dict.fromkeys(names[1:], field)
            return dict(zip(names, operations, strict=True)), {
                "custom_field_mapper": mapper
            } if mapper else {}
        from ffcv.pipeline import PipelineSpec

        return {
            name: PipelineSpec(field, decoder=o[0], transforms=o[1:])
            for name, o in zip(names, operations, strict=True)
        }, {}

    def operations(self, job: dict, view: dict) -> list:
        """One view, as far as this package has its operations."""
        import ffcv.transforms as T
        from ffcv.fields import rgb_image as decoders

        size = (view["size"], view["size"])
        if view["crop"] == "center":
            chain = [decoders.CenterCropRGBImageDecoder(size, view["ratio"])]
        elif (
            view["crop"] == "patch"
        ):  # a square with the patch's share of the area: the patch, anywhere
            share = view["patch"] ** 2 / self.area(job)
            chain = [
                decoders.RandomResizedCropRGBImageDecoder(
                    size, scale=(share, share), ratio=(1.0, 1.0)
                )
            ]
        else:
            chain = [decoders.RandomResizedCropRGBImageDecoder(size, scale=tuple(view["scale"]))]
        self.note("resize is OpenCV's INTER_AREA")
        chain += [T.RandomHorizontalFlip(view["flip"])] if view["flip"] else []
        chain += self.colours(T, view)
        return [*chain, T.ToTensor(), T.ToTorchImage()]

    def area(self, job: dict) -> int:
        """Pixels of an image, where all have the same size."""
        records = StoredImages(job["path"], job["field"], job["stored"]).records
        (area, *others) = np.unique(records["height"].astype(int) * records["width"])
        if others:
            raise Absent("has no crop of fixed size, and these images differ in theirs")
        return int(area)

    def colours(self, T, view: dict) -> list:
        """Jitter, grey, blur and solarization."""
        brightness, contrast, saturation, _ = view["jitter"]
        if self.flavour == STOCK:
            self.lack("hue", view["jitter_p"])
            self.lack("grey", view["gray"])
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
            self.note("jitter in fixed order, hue as a rotation in RGB")
        chain += [T.RandomGrayscale(view["gray"])] if view["gray"] else []
        if view["blur"]:
            chain += [T.GaussianBlur(view["blur"], view["kernel"], tuple(view["sigma"]))]
            self.note("blur is SciPy's 2-D convolution in one Python thread")
        return chain + ([T.RandomSolarization(view["solarize"])] if view["solarize"] else [])

    def lack(self, name: str, wanted: float) -> None:
        """Note once that an operation of the job is left out."""
        if wanted and name not in self.lacks:
            self.lacks.append(name)

    def note(self, text: str) -> None:
        """Note a difference once."""
        if text not in self.notes:
            self.notes.append(text)


def sample_ids(job: dict) -> np.ndarray:
    """The ids of an epoch: all stored images, again and again."""
    return np.arange(job["num_images"], dtype="uint64") % np.uint64(job["stored"])


def restore_scipy_name() -> None:
    """FFCV-SSL's blur asks for `scipy.signal.gaussian`, which SciPy 1.13 moved to `scipy.signal.windows`."""
    try:
        from scipy import signal
    except ImportError:
        return
    if not hasattr(signal, "gaussian"):
        signal.gaussian = signal.windows.gaussian


if __name__ == "__main__":
    flavour = sys.argv[1].removeprefix("--flavour=")
    packages = (
        "ffcv" if flavour == STOCK else "ffcv-ssl",
        "torch",
        "numba",
        "numpy",
        "opencv-python-headless",
        "scipy",
    )
    serve(lambda: FfcvLoader(flavour), packages)
