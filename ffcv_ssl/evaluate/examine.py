"""Checks of the data files before a training: matching classes and shared images."""

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
    """Match the classes of the data files, and search for images that they share.

    Remarks are logged as warnings. With several processes, only rank 0 searches and logs.

    Parameters
    ----------
    data
        Files and their fields. Without a validation file, only the training file is checked.
    trained_on
        Path of the file on which the weights were trained, if that is another one. It is skipped if
        it no longer exists.

    Returns
    -------
    Classes
        Classes of the training file, with all remarks.

    Raises
    ------
    ConfigError
        If the labels or classes of the files do not match; see `match_classes`.
    """
    with ExitStack() as stack:
        train = stack.enter_context(Reader(data.train))
        val = stack.enter_context(Reader(data.val)) if data.val else None
        classes = match_classes(train, val, data.label)
        if not is_main():
            return classes
        remarks = [*classes.remarks]
        if val is not None:
            for path in _training_files(data.train, trained_on):
                is_open = path == data.train
                reader = train if is_open else stack.enter_context(Reader(path))
                remarks += overlap_remarks(reader, val, data.image)
    for remark in remarks:
        logger.warning(remark)
    return replace(classes, remarks=tuple(remarks))


def _training_files(train: str, trained_on: str) -> Iterator[str]:
    """Yield the file that classifiers use, and the one on which the weights were trained."""
    yield train
    if trained_on and Path(trained_on).exists() and not Path(trained_on).samefile(train):
        yield trained_on
