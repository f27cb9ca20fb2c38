"""Statistics of embeddings that need no labels: effective rank, alignment, uniformity."""

import torch

from ffcv_ssl.evaluate.configs import Configs
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.ssl import Method, alignment, rankme, uniformity
from ffcv_ssl.train.device import autocast
from ffcv_ssl.train.network import frozen
from ffcv_ssl.train.samples import random_samples
from ffcv_ssl.train.views import delivered

MAX_SAMPLES = 5_000  # uniformity stores a distance for each pair: 50 MB


def spread_scores(
    method: Method, c: Configs, device: torch.device, precision: str = "float32"
) -> dict[str, float]:
    """Measure the spread of the embeddings of two training views of each image.

    At most 5,000 random training images are used. See `ffcv_ssl.ssl.metrics` for the scores.
    Compare only runs of the same method and augmentation.

    Parameters
    ----------
    method
        Method on `device`. It is frozen for the evaluation.
    c
        Configuration of the run: sections data, view, eval and train.
    device, precision
        Device and precision of the encoding.

    Returns
    -------
    dict
        rankme_z, the effective rank of the embeddings of the first views; alignment; uniformity,
        the mean over both views. Empty if there are fewer than two images.
    """
    pipeline = c.view.pipeline(c.view.size, 2)
    loader = Loader(
        c.data.train,
        batch_size=max(1, c.eval.batch_size // 2),
        order=OrderOption.SEQUENTIAL,
        seed=c.train.seed + 1,
        indices=random_samples(c.data.train, MAX_SAMPLES, c.train.seed),
        pipelines={c.data.image: delivered(pipeline, device)},
        num_workers=c.data.workers,
        drop_last=False,
    )
    embeddings = []
    with loader, frozen(method):
        for batch in loader:
            views = batch[0].to(device, non_blocking=True)
            with autocast(device, precision):
                embeddings.append(method.embed(views).float())
    z = torch.cat(embeddings)
    if len(z) < 2:
        return {}
    mean_uniformity = (uniformity(z[:, 0]) + uniformity(z[:, 1])) / 2
    return {
        "rankme_z": rankme(z[:, 0]),
        "alignment": alignment(z),
        "uniformity": mean_uniformity,
    }
