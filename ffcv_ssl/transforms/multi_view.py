"""Several views of one image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ffcv_ssl.errors import PipelineError


@dataclass(frozen=True)
class MultiView:
    """Render several views of one decoded image; the batch gets a view axis, also for a single view.

    Parameters
    ----------
    pipelines
        A list of pipelines, one per view, or one pipeline for all of them.
    n
        Number of views of a single pipeline.
    """

    pipelines: Sequence[Any]
    n: int | None = None

    def __post_init__(self):
        if not isinstance(self.pipelines, (list, tuple)):
            raise PipelineError(f"MultiView: pipelines is a list, got {type(self.pipelines).__name__}.")
        nested = [isinstance(pipeline, (list, tuple)) for pipeline in self.pipelines]
        if self.n is None:
            if not nested or not all(nested):
                raise PipelineError("MultiView: give a list of pipelines, or one pipeline and the number of views n.")
            views = tuple(tuple(pipeline) for pipeline in self.pipelines)
        else:
            if any(nested) or not isinstance(self.n, int) or self.n < 1:
                raise PipelineError(f"MultiView: n is a positive number of views of one pipeline, got n={self.n!r}.")
            views = (tuple(self.pipelines),) * self.n
        object.__setattr__(self, "pipelines", views)

    def __iter__(self):
        return iter(self.pipelines)
