"""Hashes of a seed and an index."""

import numpy as np
from scipy import stats

from ffcv_ssl.fields.hashing import index_hash, index_uniform


def test_hash__never_changes():
    """The order of the samples in a file written with a seed depends on these numbers."""
    assert [int(word) for word in index_hash(0, np.arange(3))] == [
        9735418304920043012,
        16657667681619871377,
        430561002907233599,
    ]
    assert 0 <= index_uniform(2**64 - 1, 2**62) < 1


def test_hash__never_collides_within_a_seed():
    """Different indices have different hashes, so that sorting by hash is unambiguous."""
    assert len(np.unique(index_hash(5, np.arange(200_000)))) == 200_000


def test_hash__is_uniform_and_mixes_seed_and_index():
    """The numbers are uniform, and those of neighboring seeds and indices are uncorrelated."""
    table = np.array([[index_uniform(seed, index) for index in range(300)] for seed in range(40)])
    assert stats.kstest(table.ravel(), "uniform").pvalue > 0.01
    assert abs(np.corrcoef(table[:-1, 1:].ravel(), table[1:, :-1].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(table[:, 1:].ravel(), table[:, :-1].ravel())[0, 1]) < 0.03
    assert len(np.unique(table)) == table.size
