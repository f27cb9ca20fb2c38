"""Export of a trained backbone to files for other programs."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ffcv_ssl.evaluate.configs import Configs
from ffcv_ssl.ssl import Method
from ffcv_ssl.system.atomic import write_whole
from ffcv_ssl.train.checkpoint import save_atomically
from ffcv_ssl.train.network import NORMALIZATIONS

NAMES = ("backbone.pt", "backbone.safetensors")


def export_backbone(
    method: Method, c: Configs, name: str, folder: Path, steps: int, epochs: int
) -> list[Path]:
    """Write the weights of a backbone as `backbone.pt` and `backbone.safetensors`.

    The weights are float32 and have the names of torchvision and timm. Existing files are replaced
    atomically. `backbone.pt` is a plain state dict. The metadata of `backbone.safetensors` hold, as
    strings: architecture, width, stem; mean and std (JSON, per channel, on the 0..255 scale);
    method, steps, epochs; image_size in pixels and image_ratio of the evaluation's whole images
    (see `CenterCrop`); and checksum (see `weights_checksum`).

    Parameters
    ----------
    method
        Method with the backbone.
    c
        Configuration of the run: sections model and view.
    name
        Name of the method.
    folder
        Folder to write to.
    steps, epochs
        Number of optimizer steps, and of completed passes over the training file.

    Returns
    -------
    list[Path]
        Paths of both files.
    """
    from safetensors.torch import save

    whole = c.view.whole()[0]
    mean, std = NORMALIZATIONS[c.model.normalization]
    weights = backbone_weights(method)
    metadata = {
        "format": "pt",  # expected by readers of safetensors files for torch
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
    """Return a copy of the weights of a backbone.

    Parameters
    ----------
    method
        Method with the backbone.

    Returns
    -------
    dict[str, Tensor]
        State dict on the CPU, contiguous, floating-point values as float32.
    """
    copied = {}
    for name, value in method.backbone.state_dict().items():
        dtype = torch.float32 if value.is_floating_point() else value.dtype
        value = value.detach().to("cpu", dtype)
        copied[name] = value.clone(memory_format=torch.contiguous_format)
    return copied


def weights_checksum(weights: Mapping[str, Tensor]) -> str:
    """Return the CRC-32 of all names and values; the safetensors format has no checksum.

    Parameters
    ----------
    weights
        State dict on the CPU.

    Returns
    -------
    str
        8 hexadecimal digits.
    """
    checksum = 0
    for name in sorted(weights):
        value = weights[name].contiguous().reshape(-1).view(torch.uint8).numpy()
        checksum = zlib.crc32(value.data, zlib.crc32(name.encode(), checksum))
    return f"{checksum:08x}"
