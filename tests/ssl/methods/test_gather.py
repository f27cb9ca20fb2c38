"""Gathered embeddings of several processes and their gradients."""

import pytest
import torch

from ffcv_ssl.ssl.methods.gather import gather
from tests.reference.torchrun import torchrun
from tests.ssl.methods.gathering_processes import METHODS, batch_of_views, loss_and_gradients


@pytest.fixture(scope="module")
def results_of_processes(tmp_path_factory):
    """Loss and gradients of each method in each of two processes."""
    folder = tmp_path_factory.mktemp("gather")
    done = torchrun("tests.ssl.methods.gathering_processes", folder)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", METHODS)
def test_gather__two_processes_have_the_gradients_of_one(results_of_processes, name):
    """Two processes with half a batch each get the gradients of the whole batch."""
    expected_loss, expected = loss_and_gradients(name, batch_of_views())
    (first_loss, first), (second_loss, second) = (found[name] for found in results_of_processes)
    assert (first_loss + second_loss) / 2 == pytest.approx(expected_loss, rel=1e-12)
    assert first.keys() == expected.keys()
    for key, gradient in expected.items():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(
            first[key], gradient, rtol=1e-9, atol=1e-12 * gradient.abs().max().item() + 1e-13
        )


@pytest.mark.parametrize("name", [name for name in METHODS if name != "byol"])
def test_gather__each_process_knows_the_loss_of_the_batch(results_of_processes, name):
    """If the loss compares images, both processes compute the loss of the whole batch."""
    whole, half = (
        loss_and_gradients(name, views)[0] for views in (batch_of_views(), batch_of_views()[::2])
    )
    assert [found[name][0] for found in results_of_processes] == pytest.approx(
        [whole, whole], rel=1e-12
    )
    assert abs(whole - half) > 1e-4 * abs(half)


def test_gather__returns_its_input_without_a_process_group():
    """Without a process group `gather` returns the same tensor."""
    embeddings = torch.randn(3, 2, 4)
    assert gather(embeddings) is embeddings
