"""FFCV's side of the view decoder: stock FFCV's loader with our views, in a process of its own, because FFCV waits for ever where it fails.

    python -m tests.interop.views_peer FILE OUT --cache=os --epochs=2 --views=simclr

OUT is a pickle: for every epoch a map from the sample's `label` to its views, and the error that a further epoch raised, or None.
"""

import argparse
import pickle
from pathlib import Path

import numpy as np
from ffcv.fields.basics import IntDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import ToTensor

from ffcv_ssl.errors import SampleError
from ffcv_ssl.interop.ffcv import ViewDecoder
from tests.interop.view_pipelines import PIPELINES, SEED


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cache", choices=("os", "process"), default="os")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--views", choices=tuple(PIPELINES), default="simclr")
    options = parser.parse_args()
    decoder = ViewDecoder(str(options.file), PIPELINES[options.views], seed=SEED, num_workers=2)
    loader = Loader(
        str(options.file),
        batch_size=9,
        num_workers=2,
        os_cache=options.cache == "os",
        order=OrderOption.RANDOM,
        seed=1,
        drop_last=False,
        pipelines={"image": [decoder, ToTensor()], "label": [IntDecoder(), ToTensor()]},
    )
    epochs, failure = [], None
    for _ in range(options.epochs):
        try:
            epochs.append({int(i): np.array(views) for images, labels in loader for i, views in zip(labels[:, 0], images, strict=True)})
        except SampleError as error:
            failure = str(error)
            break
    options.out.write_bytes(pickle.dumps((epochs, failure)))


if __name__ == "__main__":
    main()
