"""An open file together with the samples selected from it and the plan of their batches."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.loader.engine.batch_plan import BatchPlan
from ffcv_ssl.loader.order.epoch_order import (
    EpochOrder,
    OrderOption,
    Selection,
    check_indices,
    epoch_order,
)
from ffcv_ssl.loader.order.page_order import PageLayout, page_layout
from ffcv_ssl.loader.order.sampling import has_repeats, plan_weights
from ffcv_ssl.loader.plan import PlanOptions, plan_batches
from ffcv_ssl.loader.state import state_identity


@dataclass(frozen=True)
class OpenedFile:
    """An open file, the samples selected from it, and the plan of their batches.

    Parameters
    ----------
    reader
        The open file.
    selection
        The samples of an epoch.
    plan
        Contents of a batch.
    order, shuffle_bytes, world_size
        Arguments of `Loader`.
    """

    reader: BetonReader
    selection: Selection
    plan: BatchPlan
    order: OrderOption
    shuffle_bytes: int
    world_size: int

    @functools.cached_property
    def layout(self) -> PageLayout | None:
        """Pages of the selected samples for a quasi-random order, else None."""
        if self.order is not OrderOption.QUASI_RANDOM:
            return None
        fields = [image.plan.field for image in self.plan.images]
        fields += [value.field for value in self.plan.values]
        indices = self.selection.indices
        return page_layout(self.reader, indices, fields, self.shuffle_bytes, self.world_size)

    def epoch_order(self, epoch: int) -> EpochOrder:
        """Return the order of an epoch over all ranks."""
        return epoch_order(self.order, self.selection, self.layout, self.plan.seed, epoch)

    def state_identity(self) -> dict[str, Any]:
        """Return the part of a saved state that a loader must share to resume from it."""
        return state_identity(
            self.reader, self.selection, self.plan.seed, self.order, self.shuffle_bytes
        )


def open_file(path: str, seed: int, arguments: Mapping[str, Any]) -> OpenedFile:
    """Open a file, select samples, and plan their batches.

    Parameters
    ----------
    path
        Absolute path of the file.
    seed
        Seed of the loader.
    arguments
        All arguments of `Loader`, by name; already checked.

    Returns
    -------
    OpenedFile
        The open file. If an error is raised, the file is closed.

    Raises
    ------
    BetonFormatError
        If the file is damaged.
    FieldNotFound, PipelineError
        If indices, weights or pipelines do not fit the file.
    """
    indices, world_size = arguments["indices"], int(arguments["world_size"])
    reader = BetonReader(path, arguments["custom_fields"], arguments["check"])
    try:
        sample_ids = check_indices(indices, reader.num_samples, path)
        weights = plan_weights(reader, sample_ids, arguments["weights"], arguments["balanced"])
        repeats = weights is not None or (indices is not None and has_repeats(sample_ids))
        options = PlanOptions(
            seed=seed,
            indices=sample_ids,
            cache=arguments["cache"],
            decode=arguments["decode"],
            num_processes=world_size,
            with_ids=arguments["with_ids"],
            with_params=arguments["with_params"],
            on_error=arguments["on_error"],
        )
        pipelines, mapper = dict(arguments["pipelines"]), dict(arguments["custom_field_mapper"])
        plan = plan_batches(reader, pipelines, mapper, options)
    except BaseException:
        reader.close()
        raise
    selection = Selection(sample_ids, weights, repeats)
    shuffle_bytes = int(arguments["shuffle_bytes"])
    return OpenedFile(reader, selection, plan, arguments["order"], shuffle_bytes, world_size)
