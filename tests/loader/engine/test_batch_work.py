"""How a batch is divided among the threads."""

import pytest

from ffcv_ssl.loader.engine.batch_work import CHUNK_PIXELS, CHUNKS_PER_THREAD, MAX_CHUNK, chunk_size


@pytest.mark.parametrize("count", [1, 7, 100, 256, 4096])
@pytest.mark.parametrize("num_pixels", [0, 32 * 32, 20 * 32 * 32, 2 * 224 * 224, 200 * 224 * 224])
@pytest.mark.parametrize("num_threads", [1, 2, 16, 64])
def test_chunk__is_worth_handing_out_and_leaves_none_idle(count, num_pixels, num_threads):
    """A chunk has enough pixels, or is one of several chunks of each thread."""
    chunk = chunk_size(count, num_pixels, num_threads)
    share = -(-count // num_threads)
    assert 1 <= chunk <= share
    assert (
        chunk * num_pixels >= CHUNK_PIXELS or chunk == share or chunk >= share / CHUNKS_PER_THREAD
    )
    if num_pixels >= CHUNK_PIXELS:
        assert chunk <= min(MAX_CHUNK, share / CHUNKS_PER_THREAD + 1)


def test_chunk__of_the_usual_workloads():
    """The chunks of four common workloads have the sizes that were measured to be fast."""
    assert chunk_size(256, 2 * 224 * 224, 64) == 4
    assert chunk_size(256, 2 * 224 * 224, 2) == 32
    assert chunk_size(100, 20 * 32 * 32, 2) == 20
    assert chunk_size(1024, 32 * 32, 4) == 256
