"""CIFAR files as pickled by Python 2.

Strings are bytes, and `numpy.core.multiarray._reconstruct` builds the arrays.
"""

import io
import pickle
import struct
import tarfile

import numpy as np

CIFAR10_NAMES = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
]


class _Python2Pickler(pickle._Pickler):
    """Pickler of protocol 2 like cPickle of Python 2.

    Only the pure Python pickler allows the choice of opcodes.
    """

    dispatch = pickle._Pickler.dispatch.copy()

    def _save_string(self, value):
        data = value.encode() if isinstance(value, str) else value
        self.write(
            b"U" + bytes([len(data)]) + data
            if len(data) < 256
            else b"T" + struct.pack("<i", len(data)) + data
        )
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = _save_string

    def memoize(self, value):
        """Number memo entries from 1, as cPickle does."""
        number = len(self.memo) + 1
        self.write(self.put(number))
        self.memo[id(value)] = number, value

    def _save_array(self, array):
        self.write(b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n")
        self.save((0,))
        self.save(b"b")
        self.write(b"tR(")
        self.save(1)
        self.save(array.shape)
        self.write(b"cnumpy\ndtype\n(")
        self.save(array.dtype.str[1:])
        self.save(0)  # integers where NumPy now expects booleans
        self.save(1)
        self.write(b"tR(")
        for part in (3, "|", None, None, None, -1, -1, 0):
            self.save(part)
        self.write(b"tb")
        self.save(False)
        self.save(array.tobytes())
        self.write(b"tb")
        self.memoize(array)

    dispatch[np.ndarray] = _save_array


def python2_pickle(content):
    """Pickle dicts, lists, strings, integers and arrays as Python 2 did."""
    buffer = io.BytesIO()
    _Python2Pickler(buffer, protocol=2).dump(content)
    return buffer.getvalue()


def batch(images, labels, labels_key="labels"):
    """Return the content of one batch file, for (N, 32, 32, 3) uint8 images."""
    return {
        "batch_label": "some batch",
        labels_key: [int(label) for label in labels],
        "data": images.transpose(0, 3, 1, 2).reshape(len(images), -1),
        "filenames": [f"image_{number}.png" for number in range(len(images))],
    }


def official_cifar10_meta():
    """Return the file `batches.meta` of CIFAR-10."""
    return python2_pickle(
        {"num_cases_per_batch": 10_000, "label_names": CIFAR10_NAMES, "num_vis": 3072}
    )


def cifar10_files(images, labels, class_names):
    """Return the files of CIFAR-10 by name: five training batches and a test batch.

    All batches have the same images in different order.
    """
    files = {
        f"data_batch_{number}": batch(np.roll(images, number, axis=0), np.roll(labels, number))
        for number in range(1, 6)
    }
    files["test_batch"] = batch(images, labels)
    files["batches.meta"] = {
        "label_names": list(class_names),
        "num_cases_per_batch": len(images),
        "num_vis": 3072,
    }
    return {name: python2_pickle(content) for name, content in files.items()}


def cifar100_files(images, labels, class_names):
    """Return the files of CIFAR-100 by name."""
    content = {**batch(images, labels, "fine_labels"), "coarse_labels": [0] * len(images)}
    meta = {"fine_label_names": list(class_names), "coarse_label_names": ["things"]}
    return {
        "train": python2_pickle(content),
        "test": python2_pickle(content),
        "meta": python2_pickle(meta),
    }


def write_archive(path, folder, files):
    """Write a `.tar.gz` with files in a folder."""
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
