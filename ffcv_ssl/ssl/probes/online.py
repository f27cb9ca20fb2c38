"""Online probes: classifiers that learn beside a method, from the features of its own forward pass."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ffcv_ssl.ssl.heads import mlp
from ffcv_ssl.ssl.methods.gather import average_gradients
from ffcv_ssl.ssl.methods.method import Logs, Method
from ffcv_ssl.ssl.probes.memory import check_memory, classifier_bytes, predicted_classes


def projector_layers(projector: nn.Module) -> list[tuple[nn.Module, int]]:
    """Find where each layer of a projector ends, and how wide it is there.

    A layer is a linear one with all that follows it up to the next, normalization and ReLU; what stands before the first belongs to none.

    Parameters
    ----------
    projector
        Its modules stand in the order of their use, and none is used twice.
    """
    layers: list[tuple[nn.Module, int]] = []
    for module in projector.modules():
        if isinstance(module, nn.Linear):
            layers.append((module, module.out_features))
        elif layers and not any(module.children()):
            layers[-1] = module, layers[-1][1]
    return layers


class OnlineProbes:
    """Linear classifiers and MLPs on a method's features, trained at each of its steps.

    They see detached features of every view, in float32, and cost no second forward pass. They draw from no global generator: the method
    trains bit for bit as without them.

    Parameters
    ----------
    method
        What is watched: the outputs of its `backbone`, which has `num_features`, and of its `projector`. Stands on its device.
    num_classes
        Labels are 0..num_classes-1.
    linear, nonlinear
        Which classifiers to train on the backbone's features: a linear one, an MLP with one hidden layer and ReLU.
    layers
        Whether the linear one also on the output of each layer of the projector; see `projector_layers`.
    lr
        Of AdamW, constant, with torch's other defaults (weight decay .01); 1e-4 in FFCV-SSL.
    hidden
        Width of the hidden layer.
    seed
        Of the initial weights.
    batch_size
        Views per step, by which the memory of a step is judged.

    Raises
    ------
    ConfigError
        If all of them need more memory than `ffcv_ssl.ssl.probes.memory.CLASSIFIER_BYTES`.

    Attributes
    ----------
    classifiers
        By name: online_linear, online_mlp, online_linear_layer1, …

    References
    ----------
    github.com/facebookresearch/FFCV-SSL, examples/train_ssl.py, `LinearsProbes`: there on one view, by a second forward pass.
    """

    def __init__(
        self,
        method: Method,
        num_classes: int,
        linear: bool = True,
        nonlinear: bool = False,
        layers: bool = False,
        lr: float = 1e-4,
        hidden: int = 2048,
        seed: int = 0,
        batch_size: int = 1,
    ):
        self.method = method
        self.is_watching = False
        sources: dict[str, tuple[nn.Module, int]] = {"": (method.backbone, method.backbone.num_features)}  # type: ignore[dict-item]
        if layers:
            sources |= {f"_layer{i}": source for i, source in enumerate(projector_layers(method.projector), start=1)}
        self.seen: dict[str, list[Tensor]] = {place: [] for place in sources}
        self.width = max(num_classes, hidden if nonlinear else 0)
        shapes = [[width, num_classes] for _, width in sources.values() if linear]
        shapes += [[method.backbone.num_features, hidden, num_classes]] if nonlinear else []  # type: ignore[list-item]
        needed = classifier_bytes(batch_size, *shapes)
        check_memory("the online probes", needed, num_classes, "Leave out some, or all: probe.linear=0, probe.mlp=0.")
        self.classifiers = nn.ModuleDict()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would set the generators of GPUs, too
            for place, (module, width) in sources.items():
                if linear:
                    self.classifiers[f"online_linear{place}"] = nn.Linear(width, num_classes)
                if nonlinear and not place:
                    self.classifiers[f"online_mlp{place}"] = mlp([width, hidden, num_classes], batch_norm=False)
                module.register_forward_hook(self._keep(place))
        self.classifiers.to(next(method.parameters()).device)
        self.optimizer = torch.optim.AdamW(self.classifiers.parameters(), lr=lr)

    def _keep(self, place: str) -> Any:
        """A forward hook that keeps what a place puts out while `watching`."""

        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            if self.is_watching:
                self.seen[place].append(output.detach())

        return hook

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Keep the features of the forward passes inside; those of a backward pass, which may compute them again, come after it."""
        for chunks in self.seen.values():
            chunks.clear()
        self.is_watching = True
        try:
            yield
        finally:
            self.is_watching = False

    def _inputs(self) -> Iterator[tuple[str, nn.Module, Tensor]]:
        """Name, classifier and what was seen at its place, (N, width) float32."""
        features = {place: torch.cat(chunks).float() for place, chunks in self.seen.items()}
        for name, classifier in self.classifiers.items():
            yield name, classifier, features[name.removeprefix("online_linear").removeprefix("online_mlp")]

    def step(self, labels: Tensor, num_views: int) -> Logs:
        """Train every classifier once on what was seen while `watching`; of several processes all take the same step.

        Parameters
        ----------
        labels
            (B,) int64, of the images whose views were seen.
        num_views
            V, views of each image.

        Returns
        -------
        Per classifier NAME_loss, mean cross entropy, and NAME_accuracy, share of the views; both from before the step.
        """
        passes = [some.flatten() for row in self.method.passes(labels[:, None].expand(-1, num_views)) for some in row]
        targets = torch.cat(passes * (len(self.seen[""]) // len(passes)))  # a method may look at its views more than once
        logs: Logs = {}
        with torch.autocast(labels.device.type, enabled=False):
            self.optimizer.zero_grad(set_to_none=True)
            for name, classifier, features in self._inputs():  # one after the other: only one holds its logits
                logits = classifier(features)
                loss = F.cross_entropy(logits, targets)
                accuracy = (logits.detach().argmax(dim=1) == targets).float().mean()
                logs |= {f"{name}_loss": loss.detach(), f"{name}_accuracy": accuracy}
                loss.backward()
            average_gradients(self.classifiers.parameters())
        self.optimizer.step()
        for seen in self.seen.values():
            seen.clear()
        return logs

    def encode(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) images to (N, D + P) float32: the backbone's D features, then the class that each of the P classifiers says.

        One pass serves both. Call `frozen` around the method.
        """
        with self.watching():
            features = self.method.features(images)
            if len(self.seen) > 1:
                self.method.projector(features)
        with torch.autocast(images.device.type, enabled=False):
            said = [predicted_classes(classifier, inputs, self.width)[:, None] for _, classifier, inputs in self._inputs()]
        return torch.cat([features.float(), *(classes.float() for classes in said)], dim=1)  # classes below 2^24 are exact

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimizer."""
        return {"classifiers": self.classifiers.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self.classifiers.load_state_dict(state["classifiers"])
        self.optimizer.load_state_dict(state["optimizer"])
