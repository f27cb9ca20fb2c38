"""torchvision's transforms in the worker processes of torch's DataLoader.

The transforms use the PIL backend, as the common SSL libraries compose them.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from dataloader import Chain, DataLoaderContestant
from protocol import need, serve


def import_transforms() -> Any:
    """Import `torchvision.transforms`, even if the wheel was built for CUDA and torch was not.

    In that case the compiled operators do not load, and registering their fake kernels fails. No
    transform needs them.
    """
    need(
        "torchvision",
        "; set --peer.torchvision.python to a Python with torchvision (benchmarks/README.md)",
    )
    with contextlib.suppress(RuntimeError):
        import torchvision.transforms

        return torchvision.transforms
    import sys

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    register = torch.library.register_fake
    torch.library.register_fake = lambda name, *rest, **options: lambda function: function
    try:
        import torchvision.transforms
    finally:
        torch.library.register_fake = register
    return torchvision.transforms


def compose(transforms: Any, view: dict[str, Any]) -> Chain:
    """Compose the transforms of one view, (3, S, S) uint8, as SimCLR, BYOL and EMP-SSL do."""
    T, size = transforms, view["size"]
    if view["crop"] == "center":
        steps = [CentralSquare(view["ratio"]), T.Resize((size, size))]
    elif view["crop"] == "patch":
        steps = [T.RandomCrop(view["patch"]), T.Resize((size, size))]
    else:
        steps = [T.RandomResizedCrop(size, scale=tuple(view["scale"]))]
    steps += [T.RandomHorizontalFlip(view["flip"])] if view["flip"] else []
    steps += (
        [T.RandomApply([T.ColorJitter(*view["jitter"])], view["jitter_p"])]
        if view["jitter_p"]
        else []
    )
    steps += [T.RandomGrayscale(view["gray"])] if view["gray"] else []
    steps += (
        [T.RandomApply([T.GaussianBlur(view["kernel"], tuple(view["sigma"]))], view["blur"])]
        if view["blur"]
        else []
    )
    steps += [T.RandomSolarize(128, view["solarize"])] if view["solarize"] else []
    return T.Compose([*steps, T.PILToTensor()])


class CentralSquare:
    """Crop to the central square of `ratio` times the shorter side."""

    def __init__(self, ratio: float):
        self.ratio = ratio

    def __call__(self, image: Any) -> Any:
        side = max(1, int(self.ratio * min(image.size)))
        left, top = ((length - side) // 2 for length in image.size)
        return image.crop((left, top, left + side, top + side))


class Torchvision(DataLoaderContestant):
    """Contestant with torchvision in a DataLoader."""

    def make_chains(self, views: list[dict[str, Any]]) -> Iterator[Chain]:
        transforms = import_transforms()
        self.notes += ["hue has 8 bits"] if any(view["jitter_p"] for view in views) else []
        return (compose(transforms, view) for view in views)


if __name__ == "__main__":
    serve(Torchvision, ("torchvision", "torch", "pillow"))
