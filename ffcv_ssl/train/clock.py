"""Measurement of training time."""

import time

import torch

from ffcv_ssl.train.distributed import world_size
from ffcv_ssl.train.progress import Progress


class Clock:
    """Adds the time of every training step to a `Progress`.

    The wait for the first batch of a process counts as start-up and is left out. Each of several
    processes measures its own time; from time to time `agree` sets all of them to the longest.
    Between two agreements, `shared_seconds` extrapolates from the agreed times, so that its value
    is the same in all processes.

    Parameters
    ----------
    progress
        Progress to update.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._has_begun = False
        self._agreed_step, self._agreed_seconds = progress.step, progress.seconds
        self._seconds_per_step = progress.seconds / progress.step if progress.step else 0.0
        self._begin_interval()

    def _begin_interval(self) -> None:
        """Begin the interval that the next call of `rates` measures."""
        progress = self.progress
        self._first_images = progress.images
        self._first_seconds, self._first_waited_s = progress.seconds, progress.waited_s

    def add_step(self, requested_at: float, received_at: float, finished_at: float) -> None:
        """Count one step.

        Parameters
        ----------
        requested_at, received_at
            Times at which its batch was requested from the loader and received, in seconds.
        finished_at
            Time at which the step was finished.
        """
        if not self._has_begun:
            self._has_begun, requested_at = True, received_at
        self.progress.waited_s += received_at - requested_at
        self.progress.seconds += finished_at - requested_at

    def synchronize(self, device: torch.device) -> None:
        """Wait for a GPU to finish its work, and count the wait as training time."""
        if device.type == "cuda":
            begun_at = time.perf_counter()
            torch.cuda.synchronize(device)
            self.progress.seconds += time.perf_counter() - begun_at

    def agree(self, seconds: float, waited_s: float) -> None:
        """Set the times on which all processes have agreed."""
        progress = self.progress
        steps = progress.step - self._agreed_step
        if steps:
            self._seconds_per_step = (seconds - self._agreed_seconds) / steps
        progress.seconds, progress.waited_s = seconds, waited_s
        self._agreed_step, self._agreed_seconds = progress.step, seconds

    @property
    def shared_seconds(self) -> float:
        """Training time in seconds, the same in all processes."""
        if world_size() == 1:
            return self.progress.seconds
        return self._agreed_seconds + self._seconds_per_step * (
            self.progress.step - self._agreed_step
        )

    def rates(self, num_views: int) -> dict[str, float]:
        """Return the training time and the rates since the last call.

        Parameters
        ----------
        num_views
            Number of views of each image.

        Returns
        -------
        dict
            seconds, the training time so far; images_per_s; views_per_s; data_wait, the fraction
            of the time spent waiting for data.
        """
        progress = self.progress
        seconds = max(progress.seconds - self._first_seconds, 1e-9)
        images_per_s = (progress.images - self._first_images) / seconds
        data_wait = (progress.waited_s - self._first_waited_s) / seconds
        self._begin_interval()
        rates = {"seconds": progress.seconds, "images_per_s": images_per_s}
        return {**rates, "views_per_s": images_per_s * num_views, "data_wait": data_wait}
