"""Schedules of learning rate and momentum as plain functions of the share of training done."""

import math


def warmup_cosine(progress: float, warmup: float = 0.0, final: float = 0.0) -> float:
    """Factor of the base learning rate: linear from 0 to 1 during warm-up, then half a cosine down to `final`.

    Parameters
    ----------
    progress
        Share of training done, 0..1: step / steps, or elapsed / allowed time.
    warmup
        Share of training spent warming up, in [0, 1).
    final
        Factor at the end, in [0, 1].
    """
    if progress < warmup:
        return progress / warmup
    done = min((progress - warmup) / (1 - warmup), 1.0)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))


def rising_momentum(progress: float, momentum: float) -> float:
    """Momentum of a moving average: from `momentum` to 1 along half a cosine.

    Parameters
    ----------
    progress
        Share of training done, 0..1.
    momentum
        At the start, in [0, 1].

    References
    ----------
    Grill et al., arXiv 2006.07733, implementation details: 1 - (1 - momentum) (cos(π progress) + 1) / 2.
    """
    return 1 - (1 - momentum) * warmup_cosine(progress)
