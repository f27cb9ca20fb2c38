"""Online probes: classifiers trained beside a method on the features of its forward passes."""

from collections.abc import Callable, Iterator, Mapping
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
    """Find the last module and the output width of each layer of a projector.

    A layer consists of a linear module and all modules up to the next linear one, such as
    normalization and ReLU. Modules before the first linear one belong to no layer.

    Parameters
    ----------
    projector
        Module whose submodules are registered in the order of their use, each used once.

    Returns
    -------
    One pair per layer: its last module and the width of its output.
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

    The probes use the detached float32 features of every view and need no forward pass of their
    own. They do not use torch's global generators: the method trains to the same bits with and
    without them.

    Parameters
    ----------
    method
        Method to probe, on its device. The probes use the outputs of its `backbone`, which must
        have `num_features`, and of its `projector`.
    num_classes
        Number of classes. Labels are 0 to num_classes - 1.
    linear
        Whether to train a linear classifier on the backbone's features.
    nonlinear
        Whether to train an MLP with one hidden layer and ReLU on the backbone's features.
    layers
        Whether to train a linear classifier on the output of each layer of the projector, too. It
        requires `linear`. See `projector_layers`.
    lr
        Learning rate of AdamW, constant, > 0; 1e-4 in FFCV-SSL. The other options of AdamW are
        torch's defaults (weight decay 0.01).
    hidden
        Width of the MLP's hidden layer.
    seed
        Random seed for the initial weights.
    batch_size
        Number of views per step, for the estimate of the memory of a step.

    Attributes
    ----------
    classifiers
        Classifiers by name: online_linear, online_mlp, online_linear_layer1, ...

    Raises
    ------
    ConfigError
        If the classifiers together need more memory than
        `ffcv_ssl.ssl.probes.memory.CLASSIFIER_BYTES`.

    References
    ----------
    facebookresearch/FFCV-SSL, examples/train_ssl.py, `LinearsProbes`, which uses one view and a
    second forward pass.

    Examples
    --------
    >>> import torch
    >>> from ffcv_ssl.ssl import Normalize, SimCLR, resnet18, simclr_projector
    >>> network = resnet18(width=4, stem="cifar_stride2")
    >>> projector = simclr_projector(network.num_features, hidden=16, out=8)
    >>> method = SimCLR(network, projector, Normalize([127.5] * 3, [127.5] * 3))
    >>> probes = OnlineProbes(method, num_classes=10)
    >>> views = torch.randint(0, 256, (4, 2, 3, 16, 16), dtype=torch.uint8)
    >>> with probes.watching():
    ...     loss, _ = method(views)
    >>> logs = probes.step(torch.tensor([0, 1, 2, 3]), num_views=2)
    >>> list(logs)
    ['online_linear_loss', 'online_linear_accuracy']
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
    ) -> None:
        self.method = method
        self.is_watching = False
        # Every backbone has `num_features`, but the type of an attribute of nn.Module is unknown.
        num_features: int = method.backbone.num_features  # type: ignore[assignment]
        # Probed modules and the widths of their outputs, by the suffix of their classifiers' names.
        sources: dict[str, tuple[nn.Module, int]] = {"": (method.backbone, num_features)}
        if layers:
            for i, source in enumerate(projector_layers(method.projector), start=1):
                sources[f"_layer{i}"] = source
        self.seen: dict[str, list[Tensor]] = {suffix: [] for suffix in sources}
        self.width = max(num_classes, hidden if nonlinear else 0)
        sizes = [[width, num_classes] for _, width in sources.values() if linear]
        if nonlinear:
            sizes.append([num_features, hidden, num_classes])
        remedy = "Turn some or all of them off: probe.linear=0, probe.mlp=0."
        needed = classifier_bytes(batch_size, *sizes)
        check_memory("the online probes", needed, num_classes, remedy)
        self.classifiers = nn.ModuleDict()
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would also seed the generators of GPUs.
            torch.default_generator.manual_seed(seed)
            for suffix, (module, width) in sources.items():
                if linear:
                    self.classifiers[f"online_linear{suffix}"] = nn.Linear(width, num_classes)
                if nonlinear and not suffix:
                    classifier = mlp([width, hidden, num_classes], batch_norm=False)
                    self.classifiers["online_mlp"] = classifier
                module.register_forward_hook(self._recorder(suffix))
        self.classifiers.to(next(method.parameters()).device)
        self.optimizer = torch.optim.AdamW(self.classifiers.parameters(), lr=lr)

    def _recorder(self, suffix: str) -> Callable[[nn.Module, Any, Tensor], None]:
        """Return a forward hook that stores a module's outputs while `watching`."""

        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            if self.is_watching:
                self.seen[suffix].append(output.detach())

        return hook

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record the features of all forward passes inside the context.

        Run the backward pass outside of the context: with recomputation it repeats forward passes.
        """
        for chunks in self.seen.values():
            chunks.clear()
        self.is_watching = True
        try:
            yield
        finally:
            self.is_watching = False

    def _inputs(self) -> Iterator[tuple[str, nn.Module, Tensor]]:
        """Yield the name, the classifier and the recorded (N, width) float32 features of each."""
        features = {suffix: torch.cat(chunks).float() for suffix, chunks in self.seen.items()}
        for name, classifier in self.classifiers.items():
            suffix = name.removeprefix("online_linear").removeprefix("online_mlp")
            yield name, classifier, features[suffix]

    def step(self, labels: Tensor, num_views: int) -> Logs:
        """Train every classifier for one step on the features recorded by `watching`.

        With several processes, all take the same step on averaged gradients.

        Parameters
        ----------
        labels
            (B,) int64, labels of the images whose views were recorded.
        num_views
            Number of views V of each image.

        Returns
        -------
        For each classifier, NAME_loss (mean cross entropy) and NAME_accuracy (fraction of the views
        classified correctly), both before the step.
        """
        label_of_view = labels[:, None].expand(-1, num_views)
        passes = [part.flatten() for row in self.method.passes(label_of_view) for part in row]
        # A method may pass its views more than once.
        targets = torch.cat(passes * (len(self.seen[""]) // len(passes)))
        logs: Logs = {}
        with torch.autocast(labels.device.type, enabled=False):
            self.optimizer.zero_grad(set_to_none=True)
            # One classifier after the other, so that the logits of only one are in memory.
            for name, classifier, features in self._inputs():
                logits = classifier(features)
                loss = F.cross_entropy(logits, targets)
                accuracy = (logits.detach().argmax(dim=1) == targets).float().mean()
                logs |= {f"{name}_loss": loss.detach(), f"{name}_accuracy": accuracy}
                torch.autograd.backward(loss)
            average_gradients(self.classifiers.parameters())
        self.optimizer.step()
        for chunks in self.seen.values():
            chunks.clear()
        return logs

    def encode(self, images: Tensor) -> Tensor:
        """Return the backbone's features and the predictions of all probes, in one pass.

        Call it with a frozen method: in evaluation mode and without gradients.

        Parameters
        ----------
        images
            (N, 3, H, W) uint8, or normalized floating point.

        Returns
        -------
        (N, D + P) float32: D features, then the class that each of the P classifiers predicts.
        """
        with self.watching():
            features = self.method.features(images)
            if len(self.seen) > 1:
                self.method.projector(features)
        with torch.autocast(images.device.type, enabled=False):
            # float32 represents classes below 2^24 exactly.
            predictions = [
                predicted_classes(classifier, inputs, self.width)[:, None].float()
                for _, classifier, inputs in self._inputs()
            ]
        return torch.cat([features.float(), *predictions], dim=1)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the classifiers and their optimizer."""
        return {
            "classifiers": self.classifiers.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state.

        Parameters
        ----------
        state
            Result of `state_dict` of probes with the same classifiers.
        """
        self.classifiers.load_state_dict(state["classifiers"])
        self.optimizer.load_state_dict(state["optimizer"])
