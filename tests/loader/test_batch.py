"""The named tuple that the loader returns."""

import copy
import pickle

import pytest
import torch

from ffcv_ssl.loader.batch import Batch, make_batch


def test_batch__is_a_named_tuple():
    """Fields come by name, key, position and unpacking; names of tuple's methods are fields too."""
    batch = make_batch({"image": 1, "index": 2, "a-b": 3}, ids=[7])
    assert isinstance(batch, Batch)
    image, index, third = batch
    assert (image, index, third) == (batch.image, batch.index, batch["a-b"]) == (1, 2, 3)
    assert batch[1:] == (2, 3)
    assert (batch.ids, batch.params) == ([7], None)
    with pytest.raises(AttributeError, match="fields: image, index, a-b"):
        _ = batch.label
    with pytest.raises(KeyError, match="no field 'label'"):
        batch["label"]


def test_batch__survives_pickling_and_copying():
    """Copies hold the same fields, ids and params."""
    batch = make_batch({"image": 1, "ids": 2}, ids=[7], params={"image": 3})
    for other in (pickle.loads(pickle.dumps(batch)), copy.copy(batch), copy.deepcopy(batch)):
        assert (other, other.names, other.ids, other.params) == (
            batch,
            ("image", "ids"),
            [7],
            {"image": 3},
        )
    assert batch["ids"] == 2


def test_batch__is_rebuilt_by_torch():
    """torch's `default_collate`, which calls the type with the fields, returns a batch."""
    samples = [make_batch({"image": torch.full((2,), i), "label": i}) for i in range(3)]
    collated = torch.utils.data.default_collate(samples)
    assert collated.image.shape == (3, 2)
    assert collated["label"].tolist() == [0, 1, 2]
