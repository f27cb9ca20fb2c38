"""Before a training: whether the files' classes match, and what would make scores flatter."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from ffcv_ssl.evaluate.overlap import overlap_remarks
from ffcv_ssl.reader import Reader
from ffcv_ssl.train.classes import Classes, match_classes
from ffcv_ssl.train.config import DataConfig
from ffcv_ssl.train.distributed import is_main

logger = logging.getLogger("ffcv_ssl")


def examine_files(data: DataConfig, trained_on: str = "") -> Classes:
    """Match the classes of the files, look for images that both hold, and log what is odd.

    Of several processes only the first looks for images and logs.

    Parameters
    ----------
    data
        The files and their fields; without validation file only the training file is looked at.
    trained_on
        The file that the weights were trained on, where that is another one; passed over if it is not
        there any more.

    Returns
    -------
    Classes
        With all remarks.

    Raises
    ------
    ConfigError
        See `match_classes`.
    """
    with ExitStack() as stack:
        train = stack.enter_context(Reader(data.train))
        val = stack.enter_context(Reader(data.val)) if data.val else None
        classes = match_classes(train, val, data.label)
        if not is_main():
            return classes
        remarks = [*classes.remarks]
        if val is not None:
            for path in _files_of_training(data.train, trained_on):
                remarks += overlap_remarks(train if path == data.train else stack.enter_context(Reader(path)), val, data.image)
    for remark in remarks:
        logger.warning(remark)
    return replace(classes, remarks=tuple(remarks))


def _files_of_training(train: str, trained_on: str) -> Iterator[str]:
    """The file that classifiers learn from, and the one that the weights were trained on."""
    yield train
    if trained_on and Path(trained_on).exists() and not Path(trained_on).samefile(train):
        yield trained_on
