"""Random access."""

import numpy as np
import pytest
import torch

from ffcv_ssl.loader import BetonDataset


def test_dataset__gives_what_was_written(raw_file, raw_images):
    """Samples are returned as written; negative indices count from the end, others raise."""
    dataset = BetonDataset(raw_file)
    assert len(dataset) == 40
    for index in (0, 17, 39, -1):
        image, label, half = dataset[index]
        np.testing.assert_array_equal(image, raw_images[index])
        assert (label, half) == (index % 40, index % 40 / 2)
    with pytest.raises(IndexError, match="no sample 40"):
        dataset[40]


def test_dataset__works_in_a_torch_data_loader(jpeg_file):
    """Worker processes of a DataLoader, spawned, read the same values."""
    loader = torch.utils.data.DataLoader(
        BetonDataset(jpeg_file), batch_size=None, num_workers=1, multiprocessing_context="spawn"
    )
    labels = [int(sample[1]) for sample in loader]
    assert labels == list(range(23))
