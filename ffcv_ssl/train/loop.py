"""The training loop that every method shares."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer

from ffcv_ssl.ssl import Method, OnlineProbes
from ffcv_ssl.train.classes import Classes
from ffcv_ssl.train.config import OptimConfig, TrainConfig
from ffcv_ssl.train.distributed import local_rank
from ffcv_ssl.train.network import training_network
from ffcv_ssl.train.progress import Progress
from ffcv_ssl.train.stop import StopSignals
from ffcv_ssl.train.training import Training

if TYPE_CHECKING:
    from ffcv_ssl.runs.record import RunRecord


def fit(
    method: Method,
    loader: Any,
    optimizer: Optimizer,
    train: TrainConfig,
    optim: OptimConfig,
    record: "RunRecord",
    evaluate: Callable[[], dict[str, float]] = dict,
    times: int = 0,
    label: str = "label",
    probes: OnlineProbes | None = None,
    classes: Classes | None = None,
) -> Progress:
    """Train `method` on the views of `loader`.

    The learning rate follows `warmup_cosine` over the share of training done: of the epochs or of
    the minutes, whichever is further.

    Within a `process_group` every process calls this, with its share of the images. All start from
    rank 0's weights or from the checkpoint. They agree every `log.every` steps, at the end of an
    epoch, and more often in the first steps, whether to stop or to save, so that all take equally
    many steps; rank 0 alone evaluates and writes. Rows hold the mean over processes.

    Parameters
    ----------
    method
        Called with views (B, V, 3, H, W), and with labels (B,) where it `uses_labels`; returns (loss, logs). Its `after_step` follows
        each step of the optimizer. Stands on the device that is to train it.
    loader
        Yields batches whose first field holds the views; has `__len__`, `state_dict()` and `load_state_dict()`.
    optimizer
        Its groups hold `initial_lr`, their highest learning rate.
    train, optim
        How long, and the schedule.
    record
        Where rows and checkpoints go; closing it is the caller's part.
    evaluate
        Scores of the frozen method; it may not change the method nor draw from the global generators. Its time is not training time.
    times
        How often it is called, evenly spaced, first before the first step; the scores after the last step are the caller's to take.
    label
        Name of the loader's field of labels, for methods and probes that use them.
    probes
        Classifiers that train beside the method; they are part of the checkpoint.
    classes
        What turns labels into numbers of classes; None: labels are such numbers.

    Returns
    -------
    Progress

    Raises
    ------
    TrainingStopped
        After SIGINT, SIGTERM, a loss that is not finite or an error of the loader; the message names the last good checkpoint.
    """
    training = Training(method, loader, optimizer, train, optim, record, label, probes, classes)
    method.train()
    with (
        StopSignals(ignore_repeats=local_rank() is not None) as stop,
        training_network(method, train, training.device) as network,
        record.progress_bar(training.total_steps, training.progress.step) as bar,
    ):
        record.announce()
        if training.progress.step == 0:
            training.save()  # so that there is a good checkpoint from the start
        training.score_if_due(evaluate, times)  # a resumed run may have stopped just before it
        while not training.is_done:
            for batch in training.batches():
                loss, logs = training.step(network, batch)
                agreed = training.agree(stop.received)
                if training.is_row_due:
                    bar.set_postfix_str(training.write_row(loss, logs, num_views=batch[0].shape[1]))
                bar.update()
                training.keep_weights_if_due()
                if agreed.signal:
                    training.stop(agreed.signal)
                if training.is_done:
                    break
                training.score_if_due(evaluate, times)
                if agreed.is_save_due:
                    training.save()
        training.save()
    return training.progress
