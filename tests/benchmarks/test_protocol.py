"""The clock of an epoch: separate start, early end, exact number of images."""

import pytest


class Clock:
    """A clock that a contestant advances."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


class Loader:
    """A contestant whose batches take given times."""

    lacks, notes = (), ()

    def __init__(self, clock, counts, start_s, batch_s):
        self.clock, self.counts, self.start_s, self.batch_s = clock, counts, start_s, batch_s
        self.is_closed = False

    def prepare(self, job):
        self.clock.now += 100

    def batches(self):
        try:
            for number, count in enumerate(self.counts):
                self.clock.now += self.batch_s if number else self.start_s
                yield count, []
        finally:
            self.is_closed = True


@pytest.fixture
def session(contestant, monkeypatch):
    """Return a function that prepares a session with the given batches and a simulated clock."""
    protocol, clock = contestant("protocol"), Clock()
    monkeypatch.setattr(protocol, "time", clock)

    def make(counts, start_s=7.0, batch_s=2.0, epoch_s=1000.0, num_images=None):
        prepared = protocol.Session(lambda: Loader(clock, counts, start_s, batch_s), ())
        prepared.prepare({"num_images": num_images or sum(counts), "epoch_s": epoch_s})
        return prepared

    return make


def test_epoch__tells_its_start_apart(session):
    """The first batch belongs to the start; seconds and images count the later batches."""
    assert session([5, 5, 3]).epoch() == {"start_s": 7.0, "seconds": 4.0, "images": 8}


def test_epoch__with_an_empty_first_batch_counts_everything(session):
    """With an empty first batch, as of plain decode and writers, the rate counts all images."""
    reply = session([0, 5, 3], start_s=0.0).epoch()
    assert reply == {"start_s": 0.0, "seconds": 4.0, "images": 8}


@pytest.mark.parametrize(
    ("batch_s", "behind_the_first"), [(0.25, 20), (1.0, 9), (3.0, 9), (0.01, 99)]
)
def test_epoch__ends_early_behind_5_s_and_ten_batches(session, batch_s, behind_the_first):
    """An epoch ends after 5 s and at least ten batches; a fast contestant completes it."""
    prepared = session([32] * 100, batch_s=batch_s, epoch_s=5.0)
    reply = prepared.epoch()
    assert reply["images"] == 32 * behind_the_first
    assert reply["seconds"] == pytest.approx(batch_s * behind_the_first)
    assert prepared.contestant.is_closed


def test_epoch__that_lost_images_is_an_error(session):
    """A complete epoch with a wrong number of images is an error; an early end is not."""
    with pytest.raises(RuntimeError, match="the epoch had 40 images, expected 50"):
        session([10] * 4, num_images=50).epoch()
    assert session([10] * 40, num_images=500, epoch_s=1.0).epoch()["images"] == 90


def test_epoch__gives_every_batch_to_the_training_step(session):
    """The step gets every batch; its time counts after the first batch, not in the start."""
    prepared = session([5, 5, 3])
    taken = []

    def step(views):
        taken.append(views)
        prepared.contestant.clock.now += 10

    prepared.consume = step
    assert prepared.epoch() == {"start_s": 7.0, "seconds": 24.0, "images": 8}
    assert len(taken) == 3


def test_prepare__warms_up_for_the_seconds_of_an_epoch(session):
    """The warm-up ends early without a minimum of batches; with 0 s it is the first batch."""
    prepared = session([1] * 100, epoch_s=5.0)
    assert prepared.contestant.clock.now == 100 + 7 + 3 * 2
    assert prepared.contestant.is_closed
    assert not session([1] * 100, epoch_s=0.0).contestant.is_closed
