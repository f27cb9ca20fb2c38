"""Parse a pipeline, a list of transforms in FFCV's style, into views and the stages after them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ffcv_ssl.errors import PipelineError
from ffcv_ssl.transforms.base import SampleTransform, ViewTransform
from ffcv_ssl.transforms.crop import Crop, Resize
from ffcv_ssl.transforms.decoders import Decoder
from ffcv_ssl.transforms.multi_view import MultiView
from ffcv_ssl.transforms.normalize import NormalizeImage
from ffcv_ssl.transforms.stages import ToDevice, ToTensor, ToTorchImage

# Elements that rendering covers: the kernel applies them or writes its output accordingly.
RENDERED = ViewTransform, Decoder, NormalizeImage, ToTensor, ToTorchImage


@dataclass(frozen=True)
class ParsedView:
    """One view: a crop, then the other transforms in the user's order."""

    transforms: tuple[ViewTransform, ...] = ()
    normalize: NormalizeImage | None = None
    channels_last: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the view in pixels, which its crop sets."""
        crop = self.transforms[0]
        assert isinstance(crop, Crop)
        assert isinstance(crop.size, tuple)
        return crop.size

    @property
    def output_format(self) -> tuple[NormalizeImage | None, bool]:
        """Normalization and layout, which all views in one tensor share."""
        return self.normalize, self.channels_last


@dataclass(frozen=True)
class ParsedPipeline:
    """All views of one pipeline, and the stages applied to the finished batch."""

    views: tuple[ParsedView, ...]
    stages: tuple[Any, ...]
    has_view_axis: bool
    device: torch.device | None
    """GPU that renders the views; None if the CPU renders them."""


def parse_pipeline(
    field: str, pipeline: Sequence[Any], common_size: tuple[int, int] | None
) -> ParsedPipeline:
    """Parse one pipeline of an image field.

    Parameters
    ----------
    field
        Name of the field, for error messages.
    pipeline
        The user's list of transforms and callables.
    common_size
        Height and width of all images in pixels; None if they differ.

    Raises
    ------
    PipelineError
        If the pipeline cannot be rendered. The message names the field and the element.
    """
    if not isinstance(pipeline, (list, tuple)):
        raise PipelineError(
            f"field {field!r}: a pipeline must be a list of transforms, "
            f"got {type(pipeline).__name__}."
        )
    elements = list(pipeline)
    multi = [index for index, element in enumerate(elements) if isinstance(element, MultiView)]
    if len(multi) > 1:
        raise PipelineError(
            f"field {field!r}: a pipeline may contain one MultiView, found {len(multi)}."
        )
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
            f"field {field!r}: put ToDevice and modules before or after MultiView, for all views "
            "alike."
        )
    views = tuple(_parse_view(field, view, common_size) for view in rendered)
    return ParsedPipeline(views, tuple(stages[0]), bool(multi), devices[0])


def _split(field: str, elements: list[Any]) -> tuple[list[Any], list[Any], torch.device | None]:
    """Split a view's elements into rendered ones, stages, and the GPU that renders, if any."""
    _check_elements(field, elements)
    elements, device = _split_device(field, elements)
    for index, element in enumerate(elements):
        if isinstance(element, RENDERED):
            continue
        for late in elements[index:]:
            if isinstance(late, (ViewTransform, Decoder)):
                name = type(element).__name__
                raise PipelineError(
                    f"field {field!r}: {type(late).__name__} follows {name}, which works on "
                    f"finished views; move it before {name}."
                )
        # The kernel writes the layout that the user requests after a stage.
        layout = [late for late in elements[index:] if isinstance(late, ToTorchImage)]
        stages = [
            late for late in elements[index:] if not isinstance(late, (ToTensor, ToTorchImage))
        ]
        return elements[:index] + layout, stages, device
    return elements, [], device


def _check_elements(field: str, elements: list[Any]) -> None:
    """Raise PipelineError for an element that cannot be part of a view."""
    for element in elements:
        if isinstance(element, MultiView):
            raise PipelineError(f"field {field!r}: MultiView cannot contain MultiView.")
        if isinstance(element, type):
            name = element.__name__
            raise PipelineError(f"field {field!r}: {name} is a class; write {name}(…).")
        if not isinstance(element, (*RENDERED, ToDevice)) and not callable(element):
            raise PipelineError(
                f"field {field!r}: {element!r} is not a transform and not a callable "
                "from tensor to tensor."
            )


def _split_device(field: str, elements: list[Any]) -> tuple[list[Any], torch.device | None]:
    """Remove a ToDevice before the transforms; return the rest and the GPU it selects."""
    views = [index for index, element in enumerate(elements) if isinstance(element, ViewTransform)]
    moves = [index for index, element in enumerate(elements) if isinstance(element, ToDevice)]
    if not (views and moves and moves[0] < views[-1]):
        return elements, None
    if views[0] < moves[0]:
        first, last = (type(elements[index]).__name__ for index in (views[0], views[-1]))
        raise PipelineError(
            f"field {field!r}: ToDevice is between {first} and {last}; put ToDevice before all "
            "transforms (the GPU renders the views) or after them (the CPU renders the views)."
        )
    move = elements[moves[0]]
    elements = elements[: moves[0]] + elements[moves[0] + 1 :]
    if move.device.type not in ("cpu", "cuda"):
        raise PipelineError(
            f"field {field!r}: ToDevice({str(move.device)!r}) precedes the transforms, but only "
            "the CPU and CUDA devices render views; put it after the transforms."
        )
    device = move.device if move.device.type == "cuda" else None
    custom = [
        type(element).__name__ for element in elements if isinstance(element, SampleTransform)
    ]
    if device and custom:
        raise PipelineError(
            f"field {field!r}: {custom[0]} is a transform in Python, which a GPU cannot run; put "
            "ToDevice after the transforms."
        )
    return elements, device


def _parse_view(field: str, elements: list[Any], common_size: tuple[int, int] | None) -> ParsedView:
    """Parse the rendered elements: one crop, then transforms, then at most one normalization."""
    view = ParsedView()
    for index, element in enumerate(elements):
        if isinstance(element, Decoder):
            if index:
                raise PipelineError(f"field {field!r}: {type(element).__name__} must come first.")
        elif isinstance(element, ToTorchImage):
            view = replace(view, channels_last=element.channels_last)
        elif isinstance(element, NormalizeImage):
            if view.normalize is not None:
                raise PipelineError(f"field {field!r}: a view may have only one NormalizeImage.")
            view = replace(view, normalize=element)
        elif isinstance(element, ViewTransform):
            view = replace(view, transforms=_append(field, view, element))
    if not any(isinstance(transform, Crop) for transform in view.transforms):
        if common_size is None:
            raise PipelineError(
                f"field {field!r}: the images differ in size; add RandomResizedCrop, CenterCrop or "
                "Resize."
            )
        view = replace(view, transforms=(Resize(common_size), *view.transforms))
    return view


def _append(field: str, view: ParsedView, transform: ViewTransform) -> tuple[ViewTransform, ...]:
    """Append a transform to a view's transforms; PipelineError if it cannot follow them."""
    if view.normalize is not None:
        raise PipelineError(
            f"field {field!r}: {type(transform).__name__} works on uint8 views; put it before "
            "NormalizeImage."
        )
    if isinstance(transform, Crop) and view.transforms:
        raise PipelineError(
            f"field {field!r}: {type(transform).__name__} must be the first transform of a view "
            "and its only crop."
        )
    return (*view.transforms, transform)
