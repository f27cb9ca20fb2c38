"""Several views of one image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ffcv_ssl.errors import PipelineError


@dataclass(frozen=True, repr=False)
class MultiView:
    """Render several views of one decoded image; the batch gets a view axis, also for a single view.

    Parameters
    ----------
    pipelines
        A list of pipelines, one per view; or one pipeline, with `n`. Afterwards a tuple with one
        pipeline per view.
    n
        Number of views of one pipeline.

    Raises
    ------
    PipelineError
        If `pipelines` is neither, or `n` is not a positive integer.

    Examples
    --------
    >>> from ffcv_ssl.transforms import RandomResizedCrop
    >>> len(MultiView([RandomResizedCrop(32)], n=20).pipelines)
    20
    """

    pipelines: Sequence[Any]
    n: int | None = None

    def __post_init__(self):
        if not isinstance(self.pipelines, (list, tuple)):
            raise PipelineError(
                f"MultiView: pipelines is a list, got {type(self.pipelines).__name__}."
            )
        nested = [isinstance(pipeline, (list, tuple)) for pipeline in self.pipelines]
        if any(nested) and not all(nested):
            raise PipelineError(
                "MultiView: pipelines is a list of pipelines or one pipeline; got a mixture of lists and transforms."
            )
        views = (
            tuple(tuple(pipeline) for pipeline in self.pipelines)
            if any(nested)
            else (tuple(self.pipelines),)
        )
        if self.n is None:
            if not any(nested):
                raise PipelineError(
                    "MultiView: give a list of pipelines, or one pipeline and the number of views n."
                )
        else:
            if not isinstance(self.n, int) or self.n < 1:
                raise PipelineError(
                    f"MultiView: n is a positive number of views, got n={self.n!r}."
                )
            if any(view != views[0] for view in views):
                raise PipelineError(
                    f"MultiView: n counts the views of one pipeline; got {len(views)} pipelines and n={self.n}."
                )
            views = views[:1] * self.n
        object.__setattr__(self, "pipelines", views)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.pipelines)

    def __repr__(self) -> str:
        views = [list(view) for view in self.pipelines]
        if all(view == views[0] for view in views):
            return f"MultiView({views[0]!r}, n={len(views)})"
        return f"MultiView({views!r})"
