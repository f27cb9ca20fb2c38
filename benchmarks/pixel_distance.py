"""Pixel differences between ffcv_ssl and Pillow for the same parameters, step by step.

    python benchmarks/pixel_distance.py FILE.beton [--size=224] [--samples=32]

Pillow rounds to bytes after every step, keeps hue, saturation and value in bytes, and approximates
the blur by box filters. The ffcv_ssl kernel rounds once. Except for hue and blur, single steps
differ by at most one gray level (tests/kernels/test_view.py). This script prints the differences of
whole chains.
"""

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from ffcv_ssl.loader import BetonDataset, Loader
from ffcv_ssl.transforms import (
    GaussianBlur,
    MultiView,
    RandomColorJitter,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomSolarization,
)

NUM_VIEWS = 4
ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}
JITTER_STEPS = (
    "brightness",
    "contrast",
    "saturation",
    "hue",
)  # indexed by the digits of `jitter.order`


def chains(size: int) -> dict[str, list[Any]]:
    """Return the chains by name; each adds one step to the previous one."""
    crop = [RandomResizedCrop(size), RandomHorizontalFlip()]
    no_hue = RandomColorJitter(0.8, 0.8, 0.8, 0.8, 0.0)
    jitter = [*crop, RandomColorJitter(0.8, 0.8, 0.8, 0.8, 0.2)]
    gray = [*jitter, RandomGrayscale(0.2)]
    blur = [*gray, GaussianBlur(0.5)]
    return {
        "crop, flip": crop,
        "+ brightness, contrast, saturation": [*crop, no_hue],
        "+ hue": jitter,
        "+ gray": gray,
        "+ blur": blur,
        "+ solarize": [*blur, RandomSolarization(0.2)],
    }


def pillow_view(image: np.ndarray, p: Mapping[str, float], size: int) -> np.ndarray:
    """Render one view with Pillow from its drawn parameters; return (size, size, 3) uint8."""
    left, top = p["crop.left"], p["crop.top"]
    view = (
        Image.fromarray(image)
        .crop((left, top, left + p["crop.width"], top + p["crop.height"]))
        .resize((size, size), Image.BILINEAR)
    )
    view = ImageOps.mirror(view) if p["flip.applied"] else view
    for position in range(4 if "jitter.order" in p else 0):
        step = JITTER_STEPS[int(p["jitter.order"]) // 4**position % 4]
        factor = p[f"jitter.{step}"]
        if step != "hue":
            view = ENHANCERS[step](view).enhance(factor) if factor != 1 else view
        elif factor != 0:
            h, s, v = view.convert("HSV").split()
            turned = (
                np.asarray(h).astype(int) + int(factor * 255)
            ) % 256  # as torchvision's adjust_hue
            view = Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), s, v)).convert(
                "RGB"
            )
    view = view.convert("L").convert("RGB") if p.get("gray.applied") else view
    view = view.filter(ImageFilter.GaussianBlur(p["blur.sigma"])) if p.get("blur.sigma") else view
    return np.asarray(
        ImageOps.solarize(view, p["solarize.threshold"])
        if p.get("solarize.threshold", 256) < 256
        else view
    )


def main() -> None:
    """Print one row per chain."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", help="a .beton file with a field 'image'")
    parser.add_argument(
        "--size", type=int, default=224, help="side of a view, pixels (default: 224)"
    )
    parser.add_argument(
        "--samples", type=int, default=32, help="images, four views each (default: 32)"
    )
    options = parser.parse_args()
    dataset = BetonDataset(options.file)
    field = list(dataset.reader.fields).index("image")
    print(
        f"{'chain':38}{'mean distance':>15}{'largest':>9}   gray levels, "
        f"{options.samples} images, {NUM_VIEWS} views each"
    )
    for name, transforms in chains(options.size).items():
        pipelines = {"image": [MultiView(transforms, n=NUM_VIEWS)]}
        samples = range(min(options.samples, len(dataset)))
        with Loader(
            options.file,
            len(samples),
            seed=0,
            indices=samples,
            pipelines=pipelines,
            with_ids=True,
            with_params=True,
        ) as loader:
            batch = next(iter(loader))
        table = batch.params["image"]
        distances = []
        for index, sample_id in enumerate(batch.ids):
            image = dataset[int(sample_id)][field]
            for view in range(NUM_VIEWS):
                theirs = pillow_view(
                    image,
                    dict(zip(table.columns, table.values[index, view].tolist(), strict=True)),
                    options.size,
                )
                ours = batch.image[index, view].numpy().transpose(1, 2, 0)
                distances.append(np.abs(ours.astype(int) - theirs))
        print(f"{name:38}{np.mean(distances):15.2f}{np.max(distances):9}")


if __name__ == "__main__":
    main()
