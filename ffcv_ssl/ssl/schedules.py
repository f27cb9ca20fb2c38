"""Schedules of the learning rate and the momentum, as functions of training progress."""

import math


def warmup_cosine(progress: float, warmup: float = 0.0, final: float = 0.0) -> float:
    """Return the factor of the base learning rate: linear warm-up, then cosine decay.

    The factor rises from 0 to 1 during warm-up and then falls along half a cosine to `final`. It
    stays at `final` for `progress` > 1.

    Parameters
    ----------
    progress
        Fraction of training done, 0 to 1: step / steps, or elapsed time / allowed time.
    warmup
        Fraction of training used for warm-up, in [0, 1).
    final
        Factor at the end of training, in [0, 1].

    Returns
    -------
    Factor in [0, 1].

    References
    ----------
    Cosine: Loshchilov and Hutter, arXiv 1608.03983, equation 5. Warm-up: Goyal et al., arXiv
    1706.02677.

    Examples
    --------
    >>> [round(warmup_cosine(p, warmup=0.1), 3) for p in (0.0, 0.05, 0.1, 0.55, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if progress < warmup:
        return progress / warmup
    done = min((progress - warmup) / (1 - warmup), 1.0)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))


def rising_momentum(progress: float, momentum: float) -> float:
    """Return BYOL's momentum of the moving average: from `momentum` to 1 along half a cosine.

    Parameters
    ----------
    progress
        Fraction of training done, 0 to 1.
    momentum
        Momentum at the start, in [0, 1].

    Returns
    -------
    1 - (1 - momentum) * (cos(π * progress) + 1) / 2.

    References
    ----------
    Grill et al., arXiv 2006.07733, implementation details.
    """
    return 1 - (1 - momentum) * warmup_cosine(progress)
