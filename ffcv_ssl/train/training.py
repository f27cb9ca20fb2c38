"""State and single steps of a training run, for the loop in `ffcv_ssl.train.loop`."""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.optim import Optimizer

from ffcv_ssl.errors import ConfigError, TrainingStopped
from ffcv_ssl.ssl import Method, OnlineProbes, warmup_cosine
from ffcv_ssl.train.checkpoint import Checkpoint
from ffcv_ssl.train.classes import Classes, class_labels
from ffcv_ssl.train.clock import Clock
from ffcv_ssl.train.config import OptimConfig, TrainConfig
from ffcv_ssl.train.device import autocast, gradient_scaler, pick_precision
from ffcv_ssl.train.distributed import averaged, highest, is_main, wait_for_all, world_size
from ffcv_ssl.train.network import Network, frozen
from ffcv_ssl.train.progress import Progress, record_evaluation, restore_last_evaluation
from ffcv_ssl.train.stateful import BatchLoader

if TYPE_CHECKING:
    from ffcv_ssl.runs.record import RunRecord


class Agreement(NamedTuple):
    """Decision of all processes after a step."""

    signal: int = 0  # number of a signal that one of the processes has received, or 0
    is_save_due: bool = False


class Training:
    """A training run: takes a step, agrees with the other processes, evaluates and saves.

    Parameters
    ----------
    method, loader, optimizer, train, optim, record, label, probes, classes
        See `ffcv_ssl.train.fit`.

    Raises
    ------
    ConfigError
        If the loader yields no batches.
    CheckpointError
        If the checkpoint to resume from cannot be read or does not fit.
    """

    def __init__(
        self,
        method: Method,
        loader: BatchLoader,
        optimizer: Optimizer,
        train: TrainConfig,
        optim: OptimConfig,
        record: "RunRecord",
        label: str,
        probes: OnlineProbes | None,
        classes: Classes | None,
    ) -> None:
        self.method, self.loader, self.optimizer, self.record = method, loader, optimizer, record
        self.train, self.optim = train, optim
        self.label, self.probes, self.classes = label, probes, classes
        self.device = next(method.parameters()).device
        self.precision = pick_precision(train.precision, self.device)
        self.scaler = gradient_scaler(self.device, self.precision)
        self.steps_per_epoch = len(loader)
        self.total_steps = train.epochs * self.steps_per_epoch
        if self.total_steps == 0:
            raise ConfigError(
                "train.batch_size: the loader yields no batches, because the training file has "
                f"fewer than {train.batch_size} images. Lower train.batch_size."
            )
        self.checkpoint = Checkpoint(
            record.checkpoint_path, method, optimizer, self.scaler, loader, probes, classes
        )
        # If one process finds the checkpoint, all of them need it.
        (may_resume,) = highest(train.resume and self.checkpoint.path.exists())
        self.progress = self.checkpoint.restore() if may_resume else Progress()
        record.begin(self.progress.step)
        if is_main():
            restore_last_evaluation(self.progress, record.tables["eval"].rows)
        self.clock = Clock(self.progress)
        self.losses = UnreadLosses()
        self.steps_taken = 0  # by this process, since it started
        self.batch_times = 0.0, 0.0  # when the batch was requested, and when it was received
        self.last_batch: Any = None
        self.loader_error: Exception | None = None

    @property
    def fraction_done(self) -> float:
        """Completed fraction of the training, the same in all processes; >= 1 at the end."""
        of_epochs = self.progress.step / self.total_steps
        if not self.train.minutes:
            return of_epochs
        return max(of_epochs, self.clock.shared_seconds / (60 * self.train.minutes))

    @property
    def is_done(self) -> bool:
        """Whether no step is left."""
        return self.fraction_done >= 1

    @property
    def where(self) -> str:
        """Current step, for messages."""
        return f"step {self.progress.step} of {self.total_steps}"

    @property
    def is_row_due(self) -> bool:
        """Whether to write a row of train.csv after this step."""
        return self.progress.step % self.record.log.every == 0 or self.is_done

    def batches(self) -> Iterator[Any]:
        """Iterate over the batches of one epoch.

        If one of several processes cannot load a batch, it repeats its last batch until all agree
        to stop. Nothing is saved from then on.
        """
        batches = None
        while True:
            requested_at = time.perf_counter()
            try:
                if self.loader_error is None:
                    batches = iter(self.loader) if batches is None else batches
                    batch = next(batches)
            except StopIteration:
                return
            except Exception as error:
                self.loader_error = error
            self.batch_times = requested_at, time.perf_counter()
            if world_size() > 1:
                is_first = self.last_batch is None
                if self.loader_error is not None:
                    batch = self.last_batch
                self.last_batch = batch
                if is_first and highest(self.loader_error is not None)[0]:
                    self.stop_for_loader()
            elif self.loader_error is not None:
                self.stop_for_loader()
            yield batch

    def step(self, network: Network, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Take one step of the optimizer; return the loss and the logs, unread, on the device."""
        method, probes, optimizer = self.method, self.probes, self.optimizer
        views = batch[0].to(self.device, non_blocking=True)
        labels = None
        if method.uses_labels or probes is not None:
            labels = class_labels(batch, self.label, self.device, self.classes)

        fraction_before = self.fraction_done
        factor = warmup_cosine(fraction_before, self.optim.warmup, self.optim.final)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        optimizer.zero_grad(set_to_none=True)
        watching = nullcontext() if probes is None else probes.watching()
        with autocast(self.device, self.precision), watching:
            loss, logs = network(views, labels) if method.uses_labels else network(views)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch
        self.scaler.step(optimizer)
        self.scaler.update()
        logs = {**logs, **method.after_step(fraction_before)}
        if probes is not None and labels is not None:
            logs |= probes.step(labels, views.shape[1])

        self.progress.step += 1
        self.progress.images += views.shape[0] * world_size()
        self.steps_taken += 1
        self.clock.add_step(*self.batch_times, time.perf_counter())
        self.losses.add(loss)
        return loss, logs

    def agree(self, signal: int | None) -> Agreement:
        """Agree with the other processes whether to continue, save or stop after this step.

        Stop if a loader failed or a loss is not finite, in any process.
        """
        if world_size() > 1 and not self.is_agreement_due:
            return Agreement()
        # On a GPU, reading the loss waits for the device, so only do it when a row is due.
        is_logged = self.progress.step % self.record.log.every == 0
        is_read = world_size() > 1 or self.device.type != "cuda" or is_logged
        if is_read:
            self.clock.synchronize(self.device)
        has_failed, is_bad, is_save_due, agreed_signal, *times = highest(
            self.loader_error is not None,
            is_read and not self.losses.are_finite(),
            self.checkpoint.age_s() >= 60 * self.train.checkpoint_minutes,
            signal or 0,
            self.progress.seconds,
            self.progress.waited_s,
        )
        self.clock.agree(*times)
        if has_failed:
            self.stop_for_loader()
        if is_bad:
            self.stop_for_divergence("the loss")
        return Agreement(int(agreed_signal), bool(is_save_due))

    @property
    def is_agreement_due(self) -> bool:
        """Whether several processes agree after this step."""
        # After steps 1, 2, 4, 8, … too, because mistakes show in the first steps.
        is_early = self.steps_taken & (self.steps_taken - 1) == 0
        return is_early or self.is_row_due or self.progress.step % self.steps_per_epoch == 0

    def write_row(self, loss: Tensor, logs: dict[str, Tensor], num_views: int) -> str:
        """Write a row of train.csv, and return its summary for the progress bar."""
        rates = self.clock.rates(num_views)
        logged = {name: value.item() for name, value in logs.items()}
        values = averaged({"loss": loss.item(), **logged})
        step, lr = self.progress.step, self.optimizer.param_groups[0]["lr"]
        row = {"step": step, "epoch": step / self.steps_per_epoch, "lr": lr, **values, **rates}
        self.record.train_row(row)
        text = "loss {loss:.4g}, {images_per_s:.0f} images/s, waiting for data {data_wait:.0%}"
        return text.format(**values, **rates)

    def evaluate_if_due(self, evaluate: Callable[[], dict[str, float]], times: int) -> None:
        """Evaluate the frozen method if one of the `times` evenly spaced evaluations is due."""
        fraction_done = self.fraction_done
        num_due = 1 + int(times * fraction_done) if times and fraction_done < 1 else 0
        if self.progress.evaluations >= num_due:
            return
        self.progress.evaluations = num_due
        self.clock.synchronize(self.device)
        if is_main():
            begun_at = time.perf_counter()
            with frozen(self.method):
                scores = evaluate()
            record_evaluation(self.progress, scores, time.perf_counter() - begun_at)
            self.record.eval_row(self.progress, self.steps_per_epoch, scores)
        wait_for_all()

    def save(self) -> None:
        """Save the checkpoint; stop instead if a loss or a weight is not finite."""
        self.clock.synchronize(self.device)
        is_loss_bad, is_weight_bad, *times = highest(
            not self.losses.are_finite(),
            not self.checkpoint.is_finite(),
            self.progress.seconds,
            self.progress.waited_s,
        )
        self.clock.agree(*times)
        if is_loss_bad or is_weight_bad:
            self.stop_for_divergence("the loss" if is_loss_bad else "a weight")
        self.checkpoint.save(self.progress)
        wait_for_all()  # otherwise the other processes count the writing as training time

    def keep_weights_if_due(self) -> None:
        """Keep the weights beside the checkpoint at the end of the epochs in `train.keep`."""
        epochs, steps_over = divmod(self.progress.step, self.steps_per_epoch)
        if steps_over == 0 and epochs in self.train.kept_epochs:
            self.save()  # checks that the weights are finite
            self.checkpoint.keep(self.progress, epochs)

    def stop(self, signal: int) -> NoReturn:
        """Save the checkpoint and stop because of a signal."""
        self.save()
        path = self.checkpoint.path
        message = f"stopped by a signal after {self.where}; --train.resume=1 continues from {path}."
        raise TrainingStopped(message, exit_status=128 + signal)

    def stop_for_loader(self) -> NoReturn:
        """Stop because this or another process could not load a batch."""
        if world_size() == 1:  # the loaders of several processes are ahead of the weights
            self.save()
        other = "another process could not load a batch; its message gives the reason."
        error = self.loader_error or RuntimeError(other)
        raise TrainingStopped(
            f"the loader failed after {self.where}: {error} The checkpoint {self.checkpoint.path} "
            f"holds step {self.checkpoint.saved_step}."
        ) from error

    def stop_for_divergence(self, subject: str) -> NoReturn:
        """Stop because a loss or weight is not finite."""
        raise TrainingStopped(
            f"{subject} is not finite at {self.where}. The last good checkpoint is "
            f"{self.checkpoint.path}, of step {self.checkpoint.saved_step}. "
            "Try a lower optim.lr."
        )


class UnreadLosses:
    """Losses that have not been read from the device yet."""

    def __init__(self) -> None:
        self.pending: list[Tensor] = []

    def add(self, loss: Tensor) -> None:
        """Add a loss without waiting for the device."""
        self.pending.append(loss.detach())

    def are_finite(self) -> bool:
        """Read all pending losses. A loss that is not finite stays pending."""
        if self.pending and not torch.stack(self.pending).isfinite().all():
            return False
        self.pending.clear()
        return True
