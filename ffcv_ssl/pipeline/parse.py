"""Read a user's pipeline: a list in FFCV's style becomes views of transforms, and stages behind them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.transforms.base import SampleTransform, ViewTransform
from ffcv_ssl.transforms.crop import Crop, Resize
from ffcv_ssl.transforms.decoders import Decoder
from ffcv_ssl.transforms.multi_view import MultiView
from ffcv_ssl.transforms.stages import NormalizeImage, ToDevice, ToTensor, ToTorchImage

RENDERED = (
    ViewTransform,
    Decoder,
    NormalizeImage,
    ToTensor,
    ToTorchImage,
)  # what the kernel does, at once or by how it writes


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
    device: torch.device | None
    """The GPU that renders the views; None: the CPU does."""


def parse_pipeline(
    field: str, pipeline: Sequence[Any], common_size: tuple[int, int] | None
) -> ParsedPipeline:
    """Read one pipeline of an image field; errors name `field` and the element."""
    if not isinstance(pipeline, (list, tuple)):
        raise PipelineError(
            f"field {field!r}: a pipeline is a list of transforms, got {type(pipeline).__name__}."
        )
    elements = list(pipeline)
    multi = [index for index, element in enumerate(elements) if isinstance(element, MultiView)]
    if len(multi) > 1:
        raise PipelineError(f"field {field!r}: one MultiView holds all views; found {len(multi)}.")
    if multi:
        before, after = elements[: multi[0]], elements[multi[0] + 1 :]
        lists = [[*before, *view] for view in elements[multi[0]]]
    else:
        lists, after = [elements], []
    split = [_split(field, [*view, *after]) for view in lists]
    rendered, stages, devices = zip(*split, strict=True)
    if any(others != stages[0] for others in stages) or any(
        device != devices[0] for device in devices
    ):
        raise PipelineError(
            f"field {field!r}: ToDevice and modules stand before or after MultiView, for all views alike."
        )
    views = tuple(_parse_view(field, view, common_size) for view in rendered)
    return ParsedPipeline(views, tuple(stages[0]), bool(multi), devices[0])


def _split(field: str, elements: list[Any]) -> tuple[list[Any], list[Any], torch.device | None]:
    """Split a view's elements into what a kernel renders and the stages behind it; tell on which GPU the kernel runs, if on one."""
    for element in elements:
        if isinstance(element, MultiView):
            raise PipelineError(f"field {field!r}: MultiView cannot stand inside MultiView.")
        if isinstance(element, type):
            raise PipelineError(
                f"field {field!r}: {element.__name__} is a class; write {element.__name__}(…)."
            )
        if not isinstance(element, (*RENDERED, ToDevice)) and not callable(element):
            raise PipelineError(
                f"field {field!r}: {element!r} is not a transform, nor a callable from tensor to tensor."
            )
    views = [index for index, element in enumerate(elements) if isinstance(element, ViewTransform)]
    moves = [index for index, element in enumerate(elements) if isinstance(element, ToDevice)]
    device = None
    if views and moves and moves[0] < views[-1]:
        if views[0] < moves[0]:
            names = type(elements[views[0]]).__name__, type(elements[views[-1]]).__name__
            raise PipelineError(
                f"field {field!r}: {names[0]} stands before ToDevice and {names[1]} behind it; views are rendered in one place, so put "
                "ToDevice before all transforms (the GPU renders) or behind them (the CPU does)."
            )
        move = elements.pop(moves[0])
        if move.device.type not in ("cpu", "cuda"):
            raise PipelineError(
                f"field {field!r}: ToDevice({str(move.device)!r}) stands before the transforms, but only the CPU and CUDA devices render "
                "views; put it behind the transforms."
            )
        device = move.device if move.device.type == "cuda" else None
        custom = [
            type(element).__name__ for element in elements if isinstance(element, SampleTransform)
        ]
        if device and custom:
            raise PipelineError(
                f"field {field!r}: {custom[0]} is a transform in Python, which a GPU cannot run; put ToDevice behind the transforms."
            )
    for index, element in enumerate(elements):
        if isinstance(element, RENDERED):
            continue
        for late in elements[index:]:
            if isinstance(late, (ViewTransform, Decoder)):
                raise PipelineError(
                    f"field {field!r}: {type(late).__name__} stands after {type(element).__name__}, which works on finished views; "
                    f"move it before {type(element).__name__}."
                )
        layout = [
            late for late in elements[index:] if isinstance(late, ToTorchImage)
        ]  # describes memory: it is written so from the start
        stages = [
            late for late in elements[index:] if not isinstance(late, (ToTensor, ToTorchImage))
        ]
        return elements[:index] + layout, stages, device
    return elements, [], device


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
            raise PipelineError(
                f"field {field!r}: its images differ in size; add RandomResizedCrop, CenterCrop or Resize."
            )
        view = replace(view, transforms=(Resize(common_size), *view.transforms))
    return view


def _append(field: str, view: ParsedView, transform: ViewTransform) -> tuple[ViewTransform, ...]:
    """Add a transform to a view, or say why it cannot stand there."""
    if view.normalize is not None:
        raise PipelineError(
            f"field {field!r}: {type(transform).__name__} works on uint8 views; put it before NormalizeImage."
        )
    if isinstance(transform, Crop) and view.transforms:
        raise PipelineError(
            f"field {field!r}: {type(transform).__name__} must be the first transform of a view, and the only crop."
        )
    return (*view.transforms, transform)
