"""Several views of one image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ffcv_ssl.errors import PipelineError


@dataclass(frozen=True, repr=False)
class MultiView:
    """Render several views of one decoded image.

    The batch has a view axis, even for a single view.

    Parameters
    ----------
    pipelines
        A list with one pipeline per view, or one pipeline together with `n`. The attribute is
        always a tuple with one pipeline per view.
    n
        Number of views that share one pipeline, >= 1.

    Raises
    ------
    PipelineError
        If `pipelines` is not a list, mixes lists and transforms, or does not fit `n`; if `n` is not
        a positive integer.

    Examples
    --------
    >>> from ffcv_ssl.transforms import GaussianBlur, MultiView, RandomResizedCrop
    >>> len(MultiView([RandomResizedCrop(32)], n=20).pipelines)
    20
    >>> crop = RandomResizedCrop(32)
    >>> len(MultiView([[crop], [crop, GaussianBlur()]]).pipelines)
    2
    """

    pipelines: Sequence[Any]
    n: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.pipelines, (list, tuple)):
            raise PipelineError(
                f"MultiView: pipelines must be a list, got {type(self.pipelines).__name__}."
            )
        nested = [isinstance(pipeline, (list, tuple)) for pipeline in self.pipelines]
        if any(nested) and not all(nested):
            raise PipelineError(
                "MultiView: pipelines must be a list of pipelines or one pipeline, got a mixture "
                "of lists and transforms."
            )
        pipelines = self.pipelines if any(nested) else [self.pipelines]
        views = tuple(tuple(pipeline) for pipeline in pipelines)
        if self.n is None:
            if not any(nested):
                raise PipelineError(
                    "MultiView: pass a list of pipelines, or one pipeline and the number of "
                    "views n."
                )
        else:
            if not isinstance(self.n, int) or self.n < 1:
                raise PipelineError(f"MultiView: n must be a positive integer, got n={self.n!r}.")
            if any(view != views[0] for view in views):
                raise PipelineError(
                    "MultiView: pass either a list of pipelines or one pipeline with n; "
                    f"got {len(views)} pipelines and n={self.n}."
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
