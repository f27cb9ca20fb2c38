"""Training loop shared by all methods."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch.optim import Optimizer

from ffcv_ssl.ssl import Method, OnlineProbes
from ffcv_ssl.train.classes import Classes
from ffcv_ssl.train.config import OptimConfig, TrainConfig
from ffcv_ssl.train.distributed import local_rank
from ffcv_ssl.train.network import training_network
from ffcv_ssl.train.progress import Progress
from ffcv_ssl.train.stateful import BatchLoader
from ffcv_ssl.train.stop import StopSignals
from ffcv_ssl.train.training import Training

if TYPE_CHECKING:
    from ffcv_ssl.runs.record import RunRecord


def fit(
    method: Method,
    loader: BatchLoader,
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
    """Train a method on the views of a loader.

    The learning rate follows `warmup_cosine` over the completed fraction of the training: of the
    epochs or of the minutes, whichever is larger.

    Within a `process_group`, every process calls this function with its part of the images. All
    processes start from the weights of rank 0 or from the checkpoint. They agree whether to stop
    or to save every `log.every` steps, at the end of an epoch, and more often in the first steps,
    so that all take the same number of steps. Only rank 0 evaluates and writes. The rows of
    train.csv hold means over processes.

    Parameters
    ----------
    method
        Method on the device that trains. It is called with views (B, V, 3, H, W), and with labels
        (B,) if it `uses_labels`, and returns (loss, logs). Its `after_step` is called after each
        step of the optimizer.
    loader
        Loader whose batches hold the views in their first field; it has `__len__`, `state_dict()`
        and `load_state_dict()`.
    optimizer
        Optimizer whose parameter groups hold their peak learning rate as `initial_lr`.
    train
        Length of the training, checkpoints, precision.
    optim
        Learning-rate schedule.
    record
        Record of the run, which receives rows and checkpoints. The caller closes it.
    evaluate
        Function that returns scores of the frozen method. It must neither change the method nor
        use the global random generators. Its duration does not count as training time.
    times
        Number of calls of `evaluate`, evenly spaced, the first before the first step. The caller
        evaluates after the last step.
    label
        Name of the loader's label field, for methods and probes that use labels.
    probes
        Classifiers that train beside the method. The checkpoint contains them.
    classes
        Classes that map labels to class indices. If None, labels are class indices.

    Returns
    -------
    Progress
        Progress after the last step.

    Raises
    ------
    ConfigError
        If the loader yields no batches, the device does not support an option, or the label field
        is missing.
    CheckpointError
        If the checkpoint to resume from cannot be read or does not fit.
    TrainingStopped
        After a signal that ends the process, a loss or weight that is not finite, or an error of
        the loader. The message names the last good checkpoint.
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
        training.evaluate_if_due(evaluate, times)  # a resumed run may have stopped just before it
        while not training.is_done:
            for batch in training.batches():
                loss, logs = training.step(network, batch)
                agreed = training.agree(stop.received)
                if training.is_row_due:
                    text = training.write_row(loss, logs, num_views=batch[0].shape[1])
                    bar.set_postfix_str(text)
                bar.update()
                training.keep_weights_if_due()
                if agreed.signal:
                    training.stop(agreed.signal)
                if training.is_done:
                    break
                training.evaluate_if_due(evaluate, times)
                if agreed.is_save_due:
                    training.save()
        training.save()
    return training.progress
