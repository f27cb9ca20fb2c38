"""What embeddings are like, without labels: effective rank, agreement of views, evenness."""

from typing import Any

import torch

from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.ssl import Method, alignment, rankme, uniformity
from ffcv_ssl.train.device import autocast
from ffcv_ssl.train.network import frozen
from ffcv_ssl.train.samples import random_samples
from ffcv_ssl.train.views import delivered

SPREAD_SAMPLES = 5_000  # uniformity holds a distance for each pair: 50 MB


def spread_scores(method: Method, c: Any, device: torch.device, precision: str = "float32") -> dict[str, float]:
    """Judge the embeddings of two training views of at most 5,000 random training images.

    Parameters
    ----------
    method
        Stands on `device`; evaluated frozen.
    c
        The run's configuration: sections data, view, eval, train.
    device, precision
        Where and in which precision to encode.

    Returns
    -------
    dict
        rankme_z (of the first views' embeddings), alignment, uniformity (the mean of both views'). Compare only runs of one method and
        augmentation. See `ffcv_ssl.ssl.metrics`.
    """
    pipeline = c.view.pipeline(c.view.size, 2)
    loader = Loader(
        c.data.train,
        batch_size=max(1, c.eval.batch_size // 2),
        order=OrderOption.SEQUENTIAL,
        seed=c.train.seed + 1,
        indices=random_samples(c.data.train, SPREAD_SAMPLES, c.train.seed),
        pipelines={c.data.image: delivered(pipeline, device)},
        num_workers=c.data.workers,
        drop_last=False,
    )
    embeddings = []
    with loader, frozen(method):
        for batch in loader:
            with autocast(device, precision):
                embeddings.append(method.embed(batch[0].to(device, non_blocking=True)).float())
    z = torch.cat(embeddings)
    if len(z) < 2:
        return {}
    uniform = (uniformity(z[:, 0]) + uniformity(z[:, 1])) / 2
    return {"rankme_z": rankme(z[:, 0]), "alignment": alignment(z), "uniformity": uniform}
