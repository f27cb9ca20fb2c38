"""A short form of `make soak`, and its statistics."""

import random

from tests.stress.rounds import Soak
from tests.stress.soak import Moment, look, problems, slope


def test_soak__gives_everything_back(tmp_path):
    """Every kind of round releases its resources and leaves the reference epoch unchanged."""
    soak = Soak(tmp_path, seed=4)
    soak.reference()
    moments = [look(soak, 0.0)]
    while len(soak.rounds) < len(soak.acts) or soak.rounds.total() < 24:
        soak.round()
        if soak.rounds.total() % 8 == 0:
            moments.append(look(soak, 0.0))
    assert not problems(moments)


def test_soak__sees_what_is_not_given_back():
    """An additional descriptor or thread, or another checksum, is reported."""
    first = Moment(0.0, 0, 300.0, 6, 1, 99)
    assert not problems([first, Moment(1.0, 1, 400.0, 6, 1, 99)])
    for changed, name in (
        ((7, 1, 99), "descriptors"),
        ((6, 2, 99), "threads"),
        ((6, 1, 98), "checksum"),
    ):
        (found,) = problems([first, Moment(1.0, 1, 300.0, *changed)])
        assert found.startswith(name)


def test_slope__is_that_of_the_trend():
    """The slope finds a leak under noise and ignores single steps and the warm-up."""
    rng = random.Random(0)
    hours = range(101)

    def moments(leak):
        return [
            Moment(36.0 * i, i, 300 + leak * i / 100 + rng.random() + 50 * (i % 10 == 7), 6, 1, 0)
            for i in hours
        ]

    an_hour, growth = slope(moments(leak=8))
    assert 7 < an_hour < 9
    assert 5 < growth < 7
    assert abs(slope(moments(leak=0))[0]) < 0.5
