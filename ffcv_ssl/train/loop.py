"""The one training loop, which every method shares."""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ffcv_ssl.errors import ConfigError, TrainingStopped
from ffcv_ssl.ssl import Method, OnlineProbes, warmup_cosine
from ffcv_ssl.train.checkpoint import Checkpoint, Progress
from ffcv_ssl.train.config import OptimConfig, TrainConfig
from ffcv_ssl.train.device import autocast, gradient_scaler, pick_precision
from ffcv_ssl.train.distributed import averaged, highest, is_main, local_rank, wait_for_all, world_size
from ffcv_ssl.train.evaluate import frozen
from ffcv_ssl.train.labels import Classes
from ffcv_ssl.train.network import training_network
from ffcv_ssl.train.online import catch_up, class_labels, note
from ffcv_ssl.train.record import RunRecord
from ffcv_ssl.train.stop import StopSignals


def fit(
    method: Method,
    loader: Any,
    optimizer: Optimizer,
    train: TrainConfig,
    optim: OptimConfig,
    record: RunRecord,
    evaluate: Callable[[], dict[str, float]] = dict,
    times: int = 0,
    label: str = "label",
    probes: OnlineProbes | None = None,
    classes: Classes | None = None,
) -> Progress:
    """Train `method` on the views of `loader`.

    The learning rate follows `warmup_cosine` over the share of training done: of the epochs or of the minutes, whichever is further.

    Within a `process_group` every process calls this, with its share of the images. All start from rank 0's weights or from the checkpoint,
    and decide alike whether to go on; rank 0 alone evaluates and writes. Rows then hold the mean over processes of what is logged.

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
    device = next(method.parameters()).device
    precision = pick_precision(train.precision, device)
    scaler = gradient_scaler(device, precision)
    steps_per_epoch = len(loader)  # the same in all processes
    total_steps = train.epochs * steps_per_epoch
    if total_steps == 0:
        raise ConfigError(f"train.batch_size: the training file has fewer than {train.batch_size} images, which leaves no batch.")

    checkpoint = Checkpoint(record.checkpoint_path, method, optimizer, scaler, loader, probes, classes)
    (may_resume,) = highest(train.resume and checkpoint.path.exists())  # where one process finds it, all need it
    progress = checkpoint.restore() if may_resume else Progress()
    record.begin(progress.step)
    if is_main():
        catch_up(progress, record.tables["eval"].rows)
    speed = Speed(progress)
    losses = UnreadLosses()
    read_every = record.log.every if device.type == "cuda" else 1  # reading a loss waits for the GPU
    needs_labels = method.uses_labels or probes is not None
    watching = nullcontext if probes is None else probes.watching
    method.train()

    def share_done() -> float:
        of_epochs = progress.step / total_steps
        return max(of_epochs, progress.seconds / (60 * train.minutes)) if train.minutes else of_epochs

    def where() -> str:
        return f"step {progress.step} of {total_steps}"

    def refuse(what: str) -> None:
        kept = f"The last good checkpoint is {checkpoint.path}, of step {checkpoint.saved_step}."
        raise TrainingStopped(f"{what} is not finite at {where()}. {kept} A lower optim.lr may help.")

    def save() -> None:
        speed.settle(device)
        for is_bad, what in zip(highest(not losses.are_finite(), not checkpoint.is_finite()), ("the loss", "a weight"), strict=True):
            if is_bad:
                refuse(what)
        checkpoint.save(progress)
        wait_for_all()  # else the others count the writing as training

    def score_if_due() -> None:
        due = 1 + int(times * share_done()) if times and share_done() < 1 else 0
        if progress.evaluations >= due:
            return
        progress.evaluations = due
        speed.settle(device)
        if is_main():
            begun_at = time.perf_counter()
            with frozen(method):
                scores = evaluate()
            note(progress, scores, time.perf_counter() - begun_at)
            record.eval_row(progress, steps_per_epoch, scores)
        wait_for_all()

    try:
        with (
            StopSignals(ignore_repeats=local_rank() is not None) as stop,
            training_network(method, train, device) as network,
            record.progress_bar(total_steps, progress.step) as bar,
        ):
            record.announce()
            if progress.step == 0:
                save()  # so that there is a good one from the start
            score_if_due()  # a stop may have come before it
            while share_done() < 1:
                for batch, asked_at, got_at in timed(loader):
                    views = batch[0].to(device, non_blocking=True)
                    labels = class_labels(batch, label, device, classes) if needs_labels else None

                    share_before = share_done()
                    factor = warmup_cosine(share_before, optim.warmup, optim.final)
                    for group in optimizer.param_groups:
                        group["lr"] = group["initial_lr"] * factor
                    optimizer.zero_grad(set_to_none=True)
                    with autocast(device, precision), watching():
                        loss, logs = network(views, labels) if method.uses_labels else network(views)
                    scaler.scale(loss).backward()
                    scaler.step(optimizer)
                    scaler.update()
                    logs = {**logs, **method.after_step(share_before)}
                    if probes is not None and labels is not None:
                        logs |= probes.step(labels, views.shape[1])

                    progress.step += 1
                    progress.images += views.shape[0] * world_size()
                    speed.add(asked_at, got_at, time.perf_counter())
                    losses.add(loss)
                    if progress.step % read_every == 0:
                        speed.settle(device)
                    # What each process sees for itself, agreed on: all take equally many steps, at equal rates.
                    is_bad, is_due, signal, progress.seconds, progress.waited_s = highest(
                        progress.step % read_every == 0 and not losses.are_finite(),
                        checkpoint.age_s() >= 60 * train.checkpoint_minutes,
                        stop.received or 0,
                        progress.seconds,
                        progress.waited_s,
                    )
                    is_last = share_done() >= 1
                    if is_bad:
                        refuse("the loss")
                    if progress.step % record.log.every == 0 or is_last:
                        rates = speed.rates(num_views=views.shape[1])
                        values = averaged({"loss": loss.item(), **{name: value.item() for name, value in logs.items()}})
                        epoch, lr = progress.step / steps_per_epoch, optimizer.param_groups[0]["lr"]
                        record.train_row({"step": progress.step, "epoch": epoch, "lr": lr, **values, **rates})
                        bar.set_postfix_str("loss {loss:.4g}, {images_per_s:.0f} images/s, waits {data_wait:.0%}".format(**values, **rates))
                    bar.update()
                    epochs, steps_over = divmod(progress.step, steps_per_epoch)
                    if steps_over == 0 and epochs in train.kept_epochs:
                        save()  # which refuses weights that are not finite
                        checkpoint.keep(progress, epochs)

                    if signal:
                        save()
                        message = f"stopped by a signal after {where()}; --train.resume=1 continues from {checkpoint.path}."
                        raise TrainingStopped(message, exit_status=128 + int(signal))
                    if is_last:
                        break
                    score_if_due()
                    if is_due:
                        save()
            save()
    except LoaderFailed as failure:
        if world_size() == 1:  # else the loaders of other processes are one batch further than the weights
            save()
        kept = f"The checkpoint {checkpoint.path} holds step {checkpoint.saved_step}."
        message = f"the loader failed after {where()}: {failure.__cause__} {kept}"
        raise TrainingStopped(message) from failure.__cause__
    return progress


class LoaderFailed(Exception):
    """Wraps what the loader raised, so that it is told apart from errors of the training itself."""


def timed(loader: Any) -> Iterator[tuple[Any, float, float]]:
    """One epoch of batches, each with the moments at which it was asked for and at which it came (`time.perf_counter`).

    A batch that one process cannot load ends the epoch of all.
    """
    batches: Iterator[Any] | None = None
    while True:
        asked_at = time.perf_counter()
        batch, error = None, None
        try:
            batches = iter(loader) if batches is None else batches
            batch = next(batches)
        except StopIteration:
            return
        except Exception as caught:
            error = caught
        got_at = time.perf_counter()
        if highest(error is not None)[0]:
            raise LoaderFailed from error or RuntimeError("another process could not load its share, and says why.")
        yield batch, asked_at, got_at


class UnreadLosses:
    """Losses that may still be on their way from the device."""

    def __init__(self) -> None:
        self.pending: list[Tensor] = []

    def add(self, loss: Tensor) -> None:
        """Remember a loss without reading it."""
        self.pending.append(loss.detach())

    def are_finite(self) -> bool:
        """Read what is pending; bad losses stay, so that every later call says so again."""
        if self.pending and not torch.stack(self.pending).isfinite().all():
            return False
        self.pending.clear()
        return True


class Speed:
    """Adds up a run's time; the wait for a process's first batch is start-up and counts as no time."""

    def __init__(self, progress: Progress):
        self.progress = progress
        self.has_begun = False
        self._mark()

    def _mark(self) -> None:
        self.images, self.seconds, self.waited_s = self.progress.images, self.progress.seconds, self.progress.waited_s

    def add(self, asked_at: float, got_at: float, done_at: float) -> None:
        """Count one step."""
        if not self.has_begun:
            self.has_begun, asked_at = True, got_at
        self.progress.waited_s += got_at - asked_at
        self.progress.seconds += done_at - asked_at

    def settle(self, device: torch.device) -> None:
        """Wait for what a GPU was asked to do, and count the wait as training; all processes do so at once."""
        if device.type == "cuda":
            begun_at = time.perf_counter()
            torch.cuda.synchronize(device)
            (self.progress.seconds,) = highest(self.progress.seconds + time.perf_counter() - begun_at)

    def rates(self, num_views: int) -> dict[str, float]:
        """Seconds of training so far; images and views per second and the share of time spent waiting since the last call."""
        seconds = max(self.progress.seconds - self.seconds, 1e-9)
        images_per_s = (self.progress.images - self.images) / seconds
        data_wait = (self.progress.waited_s - self.waited_s) / seconds
        self._mark()
        rates = {"seconds": self.progress.seconds, "images_per_s": images_per_s}
        return {**rates, "views_per_s": images_per_s * num_views, "data_wait": data_wait}
