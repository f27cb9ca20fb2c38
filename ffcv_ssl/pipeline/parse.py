"""Read a user's pipeline: a list in FFCV's style becomes views of transforms, and stages behind them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.transforms.base import ViewTransform
from ffcv_ssl.transforms.crop import Crop, Resize
from ffcv_ssl.transforms.decoders import Decoder
from ffcv_ssl.transforms.multi_view import MultiView
from ffcv_ssl.transforms.stages import NormalizeImage, ToDevice, ToTensor, ToTorchImage


@dataclass(frozen=True)
class ParsedView:
    """One view: a crop, then the other transforms, in the user's order."""

    transforms: tuple[ViewTransform, ...] = ()
    normalize: NormalizeImage | None = None
    channels_last: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the view: those of its crop, which stands first."""
        crop = self.transforms[0]
        assert isinstance(crop, Crop)
        assert isinstance(crop.size, tuple)
        return crop.size

    @property
    def style(self) -> tuple:
        """What views in one tensor have in common."""
        return self.normalize, self.channels_last


@dataclass(frozen=True)
class ParsedPipeline:
    """All views of one pipeline, and the stages that the finished batch passes."""

    views: tuple[ParsedView, ...]
    stages: tuple[Any, ...]
    has_view_axis: bool


def parse_pipeline(field: str, pipeline: Sequence[Any], common_size: tuple[int, int] | None) -> ParsedPipeline:
    """Read one pipeline of an image field; errors name `field` and the element."""
    if not isinstance(pipeline, (list, tuple)):
        raise PipelineError(f"field {field!r}: a pipeline is a list of transforms, got {type(pipeline).__name__}.")
    elements = list(pipeline)
    multi = [index for index, element in enumerate(elements) if isinstance(element, MultiView)]
    if len(multi) > 1:
        raise PipelineError(f"field {field!r}: one MultiView holds all views; found {len(multi)}.")
    if multi:
        before, after = elements[: multi[0]], elements[multi[0] + 1 :]
        lists = [[*before, *view] for view in elements[multi[0]]]
    else:
        lists, after = [elements], []
    split = [_split_stages(field, [*view, *after]) for view in lists]
    if any(stages != split[0][1] for _, stages in split):
        raise PipelineError(f"field {field!r}: stages behind the views (ToDevice, modules) stand after MultiView, for all views alike.")
    views = tuple(_parse_view(field, view, common_size) for view, _ in split)
    return ParsedPipeline(views, tuple(split[0][1]), bool(multi))


def _split_stages(field: str, elements: list[Any]) -> tuple[list[Any], list[Any]]:
    """Split a view's elements into what the kernel renders and the stages behind it."""
    for index, element in enumerate(elements):
        if isinstance(element, MultiView):
            raise PipelineError(f"field {field!r}: MultiView cannot stand inside MultiView.")
        if isinstance(element, type):
            raise PipelineError(f"field {field!r}: {element.__name__} is a class; write {element.__name__}(…).")
        rendered = isinstance(element, (ViewTransform, Decoder, NormalizeImage, ToTensor, ToTorchImage))
        if rendered:
            continue
        if not isinstance(element, ToDevice) and not callable(element):
            raise PipelineError(f"field {field!r}: {element!r} is not a transform, nor a callable from tensor to tensor.")
        rest = elements[index:]
        for late in rest:
            if isinstance(late, (ViewTransform, Decoder)):
                raise PipelineError(
                    f"field {field!r}: {type(late).__name__} stands after {type(element).__name__}, but views are rendered on the CPU; "
                    f"move it before {type(element).__name__}."
                )
        layout = [late for late in rest if isinstance(late, ToTorchImage)]  # describes memory: it is written so from the start
        return elements[:index] + layout, [late for late in rest if not isinstance(late, (ToTensor, ToTorchImage))]
    return elements, []


def _parse_view(field: str, elements: list[Any], common_size: tuple[int, int] | None) -> ParsedView:
    """Read what the kernel renders: one crop, then transforms, then at most one normalization."""
    view = ParsedView()
    for index, element in enumerate(elements):
        if isinstance(element, Decoder):
            if index:
                raise PipelineError(f"field {field!r}: {type(element).__name__} must come first.")
        elif isinstance(element, ToTorchImage):
            view = replace(view, channels_last=element.channels_last)
        elif isinstance(element, NormalizeImage):
            if view.normalize is not None:
                raise PipelineError(f"field {field!r}: NormalizeImage stands twice.")
            view = replace(view, normalize=element)
        elif isinstance(element, ViewTransform):
            view = replace(view, transforms=_append(field, view, element))
    if not any(isinstance(transform, Crop) for transform in view.transforms):
        if common_size is None:
            raise PipelineError(f"field {field!r}: its images differ in size; add RandomResizedCrop, CenterCrop or Resize.")
        view = replace(view, transforms=(Resize(common_size), *view.transforms))
    return view


def _append(field: str, view: ParsedView, transform: ViewTransform) -> tuple[ViewTransform, ...]:
    """Add a transform to a view, or say why it cannot stand there."""
    if view.normalize is not None:
        raise PipelineError(f"field {field!r}: {type(transform).__name__} works on uint8 views; put it before NormalizeImage.")
    if isinstance(transform, Crop) and view.transforms:
        raise PipelineError(f"field {field!r}: {type(transform).__name__} must be the first transform of a view, and the only crop.")
    return (*view.transforms, transform)
