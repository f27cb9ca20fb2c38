"""The one training loop, which every method shares."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ffcv_ssl.errors import ConfigError, TrainingStopped
from ffcv_ssl.ssl import Method, warmup_cosine
from ffcv_ssl.train.checkpoint import Checkpoint, Progress
from ffcv_ssl.train.config import OptimConfig, TrainConfig
from ffcv_ssl.train.device import autocast, gradient_scaler, pick_precision
from ffcv_ssl.train.evaluate import frozen
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
) -> Progress:
    """Train `method` on the views of `loader`.

    The learning rate follows `warmup_cosine` over the share of training done: of the epochs or of the minutes, whichever is further.

    Parameters
    ----------
    method
        Called with views (B, V, 3, H, W); returns (loss, logs). Its `after_step` follows each step of the optimizer.
        Stands on the device that is to train it.
    loader
        Yields named tuples whose first field holds the views; has `__len__`, `state_dict()` and `load_state_dict()`.
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
        Name of the field whose values a method with `uses_labels` is given beside the views, (B,) int64.

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
    steps_per_epoch = len(loader)
    total_steps = train.epochs * steps_per_epoch
    if total_steps == 0:
        raise ConfigError(f"train.batch_size: the training file has fewer than {train.batch_size} images, which leaves no batch.")

    checkpoint = Checkpoint(record.checkpoint_path, method, optimizer, scaler, loader)
    progress = checkpoint.restore() if train.resume and checkpoint.path.exists() else Progress()
    record.begin(progress.step)
    speed = Speed(progress)
    losses = UnreadLosses()
    read_every = record.log.every if device.type == "cuda" else 1  # reading a loss waits for the GPU
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
        if not losses.are_finite():
            refuse("the loss")
        if not checkpoint.is_finite():
            refuse("a weight")
        checkpoint.save(progress)

    def score() -> None:
        with frozen(method):
            record.eval_row(progress.step, progress.step / steps_per_epoch, progress.seconds, evaluate())

    try:
        with StopSignals() as stop, record.progress_bar(total_steps, progress.step) as bar:
            if progress.step == 0:
                save()  # so that there is a good one from the start
                if times:
                    score()
            while share_done() < 1:
                for batch, asked_at, got_at in timed(loader):
                    views = batch[0].to(device, non_blocking=True)
                    labels = [batch[label].to(device).long().flatten()] if getattr(method, "uses_labels", False) else []

                    share_before = share_done()
                    factor = warmup_cosine(share_before, optim.warmup, optim.final)
                    for group in optimizer.param_groups:
                        group["lr"] = group["initial_lr"] * factor
                    with autocast(device, precision):
                        loss, logs = method(views, *labels)
                    optimizer.zero_grad(set_to_none=True)
                    scaler.scale(loss).backward()
                    scaler.step(optimizer)
                    scaler.update()
                    logs = {**logs, **method.after_step(share_before)}

                    progress.step += 1
                    progress.images += views.shape[0]
                    speed.add(asked_at, got_at, time.perf_counter())
                    losses.add(loss)
                    is_last = share_done() >= 1
                    if progress.step % read_every == 0 and not losses.are_finite():
                        refuse("the loss")
                    if progress.step % record.log.every == 0 or is_last:
                        rates = speed.rates(num_views=views.shape[1])
                        values = {"loss": loss.item(), **{name: value.item() for name, value in logs.items()}}
                        epoch, lr = progress.step / steps_per_epoch, optimizer.param_groups[0]["lr"]
                        record.train_row({"step": progress.step, "epoch": epoch, "lr": lr, **values, **rates})
                        bar.set_postfix_str("loss {loss:.4g}, {images_per_s:.0f} images/s, waits {data_wait:.0%}".format(**values, **rates))
                    bar.update()

                    if stop.received is not None:
                        save()
                        message = f"stopped by a signal after {where()}; --train.resume=1 continues from {checkpoint.path}."
                        raise TrainingStopped(message, exit_status=128 + stop.received)
                    if checkpoint.age_s() >= 60 * train.checkpoint_minutes:
                        save()
                    if is_last:
                        break
                    if int(times * share_before) < int(times * share_done()):
                        score()
            save()
    except LoaderFailed as failure:
        save()
        message = f"the loader failed after {where()}: {failure.__cause__} The checkpoint {checkpoint.path} holds that step."
        raise TrainingStopped(message) from failure.__cause__
    return progress


class LoaderFailed(Exception):
    """Wraps what the loader raised, so that it is told apart from errors of the training itself."""


def timed(loader: Any) -> Iterator[tuple[Any, float, float]]:
    """One epoch of batches, each with the moments at which it was asked for and at which it came (`time.perf_counter`)."""
    try:
        batches = iter(loader)
    except Exception as error:
        raise LoaderFailed from error
    while True:
        asked_at = time.perf_counter()
        try:
            batch = next(batches)
        except StopIteration:
            return
        except Exception as error:
            raise LoaderFailed from error
        yield batch, asked_at, time.perf_counter()


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

    def rates(self, num_views: int) -> dict[str, float]:
        """Seconds of training so far; images and views per second and the share of time spent waiting since the last call."""
        seconds = max(self.progress.seconds - self.seconds, 1e-9)
        images_per_s = (self.progress.images - self.images) / seconds
        data_wait = (self.progress.waited_s - self.waited_s) / seconds
        self._mark()
        rates = {"seconds": self.progress.seconds, "images_per_s": images_per_s}
        return {**rates, "views_per_s": images_per_s * num_views, "data_wait": data_wait}
