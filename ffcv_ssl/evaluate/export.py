"""A trained backbone as files that other programs read."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ffcv_ssl.runs.measurements import write_whole
from ffcv_ssl.ssl import Method
from ffcv_ssl.train.checkpoint import save_atomically
from ffcv_ssl.train.config import NORMALIZATIONS

NAMES = ("backbone.pt", "backbone.safetensors")


def export_backbone(method: Method, c: Any, name: str, folder: Path, steps: int, epochs: int) -> list[Path]:
    """Write the backbone's weights, float32, under the names of torchvision and timm, twice.

    Parameters
    ----------
    method
        Whose backbone to write.
    c
        The run's configuration, with sections `model` and `view`.
    name
        Of the method.
    folder
        Where to; files that are there are replaced, each as a whole.
    steps, epochs
        Optimizer steps behind the weights, and finished passes over the training file.

    Returns
    -------
    Paths of `backbone.pt`, a plain state_dict, and `backbone.safetensors`. The latter's metadata (texts) hold architecture, width,
    stem, mean and std (JSON, per channel, on the 0..255 scale), method, steps, epochs, of the evaluation's whole images size in pixels
    and ratio, see `CenterCrop`, and checksum, see `weights_checksum`.
    """
    from safetensors.torch import save

    whole = c.view.whole()[0]
    mean, std = NORMALIZATIONS[c.model.normalization]
    weights = backbone_weights(method)
    metadata = {
        "format": "pt",  # what readers of safetensors expect of files for torch
        "architecture": c.model.backbone,
        "width": str(c.model.width),
        "stem": c.model.stem,
        "mean": json.dumps(mean),
        "std": json.dumps(std),
        "method": name,
        "steps": str(steps),
        "epochs": str(epochs),
        "image_size": str(whole.size[0]),
        "image_ratio": str(whole.ratio),
        "checksum": weights_checksum(weights),
    }
    paths = [Path(folder) / file_name for file_name in NAMES]
    save_atomically(weights, paths[0])
    write_whole(paths[1], save(weights, metadata=metadata))
    return paths


def backbone_weights(method: Method) -> dict[str, Tensor]:
    """The backbone's state_dict, copied: on the CPU, contiguous, floating-point values as float32."""
    copied = {}
    for name, value in method.backbone.state_dict().items():
        value = value.detach().to("cpu", torch.float32 if value.is_floating_point() else value.dtype)
        copied[name] = value.clone(memory_format=torch.contiguous_format)
    return copied


def weights_checksum(weights: Mapping[str, Tensor]) -> str:
    """CRC-32 of all names and values, in 8 hex digits: the format itself has no checksum."""
    checksum = 0
    for name in sorted(weights):
        value = weights[name].contiguous().reshape(-1).view(torch.uint8).numpy()
        checksum = zlib.crc32(value.data, zlib.crc32(name.encode(), checksum))
    return f"{checksum:08x}"
