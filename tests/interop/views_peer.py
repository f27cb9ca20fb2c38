"""Run stock FFCV's loader with our ViewDecoder, in a separate process because FFCV hangs on errors.

    python -m tests.interop.views_peer FILE OUT --views=simclr --cache=os --run=epochs

OUT is a pickle: a list of epochs, each a dict from the sample's `label` to its views, then type and
text of the error that ended the run.
"""

import argparse
import pickle
from pathlib import Path

import numpy as np
from ffcv.fields.basics import IntDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import ToTensor

from ffcv_ssl.errors import FfcvSslError
from ffcv_ssl.interop.ffcv import ViewDecoder
from tests.interop.view_pipelines import PIPELINES, REPEATED, RESUMED_EPOCH, SEED

BATCH = 9
Epoch = dict[int, np.ndarray]


def make_loader(options: argparse.Namespace, **more) -> Loader:
    """Return stock FFCV's loader with our decoder as first operation."""
    pipelines = {
        "image": [ViewDecoder(PIPELINES[options.views], seed=SEED), ToTensor()],
        "label": [IntDecoder(), ToTensor()],
    }
    arguments = {
        "num_workers": 2,
        "os_cache": options.cache == "os",
        "order": OrderOption.RANDOM,
        "seed": 1,
        "drop_last": False,
    }
    return Loader(
        str(options.file), batch_size=BATCH, **({"pipelines": pipelines} | arguments | more)
    )


def copied(batch: tuple) -> Epoch:
    """Copy the views of a batch, by label; FFCV reuses its memory."""
    images, labels = batch
    return {int(label): np.array(views) for label, views in zip(labels[:, 0], images, strict=True)}


def gathered(batches) -> Epoch:
    """Return a whole epoch by label."""
    return {label: views for batch in batches for label, views in copied(batch).items()}


def epochs(options: argparse.Namespace):
    """Yield two epochs, one after the other."""
    loader = make_loader(options)
    for _ in range(2):
        yield gathered(loader)


def left_early(options: argparse.Namespace):
    """Yield an epoch interrupted after its first batch, a full epoch, and a later epoch."""
    loader = make_loader(options, drop_last=True)
    yield copied(next(iter(loader)))
    yield gathered(loader)
    loader.next_epoch = RESUMED_EPOCH
    yield gathered(loader)


def side_by_side(options: argparse.Namespace):
    """Yield two concurrent epochs of one loader and one of another loader on the same file."""
    loader, other = make_loader(options), make_loader(options, os_cache=options.cache != "os")
    found = [{}, {}, {}]
    for batches in zip(iter(loader), iter(loader), iter(other), strict=True):
        for epoch, batch in zip(found, batches, strict=True):
            epoch.update(copied(batch))
    yield from found


def repeated(options: argparse.Namespace):
    """Yield the batches of two epochs with repeated samples, as pairs of label and views."""
    loader = make_loader(options, order=OrderOption.SEQUENTIAL, indices=REPEATED)
    for _ in range(2):
        for images, labels in loader:
            pairs = zip(labels[:, 0], images, strict=True)
            yield [(int(label), np.array(views)) for label, views in pairs]


def until_damage(options: argparse.Namespace):
    """Yield the batches before a damaged image, then the first batch of the next epoch."""
    loader = make_loader(options, order=OrderOption.SEQUENTIAL)
    batches = iter(loader)
    yield copied(next(batches))
    try:
        next(batches)
    except FfcvSslError:
        assert next(batches, None) is None
        yield copied(next(iter(loader)))
        raise


def misplaced(options: argparse.Namespace):
    """Build a loader with the decoder on a field without images."""
    field, pipeline = ("label", [ViewDecoder(PIPELINES[options.views])])
    yield make_loader(options, pipelines={"image": None, field: pipeline})


RUNS = {
    run.__name__: run
    for run in (epochs, left_early, side_by_side, repeated, until_damage, misplaced)
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--views", choices=tuple(PIPELINES), default="simclr")
    parser.add_argument("--cache", choices=("os", "process"), default="os")
    parser.add_argument("--run", choices=tuple(RUNS), default="epochs")
    options = parser.parse_args()
    found, failure = [], None
    try:
        for epoch in RUNS[options.run](options):
            found.append(epoch)
    except FfcvSslError as error:
        failure = error
    options.out.write_bytes(pickle.dumps((found, type(failure).__name__, str(failure))))


if __name__ == "__main__":
    main()
