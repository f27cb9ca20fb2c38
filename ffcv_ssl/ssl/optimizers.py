"""The optimizer LARS in its two published forms, and parameter groups without weight decay."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def parameter_groups(
    model: nn.Module, weight_decay: float, exclude_1d: bool
) -> list[dict[str, Any]]:
    """Split the parameters into a group with weight decay and a group without.

    Parameters
    ----------
    model
        Network to optimize. Parameters with `requires_grad` False are left out.
    weight_decay
        Weight decay of the first group, >= 0.
    exclude_1d
        Whether parameters with at most one axis (biases, normalization) get no weight decay. False
        puts all parameters into one group.

    Returns
    -------
    One or two groups with the keys "params" and "weight_decay", for a `torch.optim.Optimizer`.

    Examples
    --------
    >>> from torch import nn
    >>> groups = parameter_groups(nn.Linear(3, 2), weight_decay=1e-4, exclude_1d=True)
    >>> [([tuple(p.shape) for p in group["params"]], group["weight_decay"]) for group in groups]
    [([(2, 3)], 0.0001), ([(2,)], 0.0)]
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not exclude_1d:
        return [{"params": parameters, "weight_decay": weight_decay}]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


class LARS(Optimizer):
    """SGD with momentum and layer-wise adaptive rates.

    Let p be a parameter, g its gradient, w the weight decay and η the trust coefficient `eta`. The
    step is that of SGD with the gradient replaced by

    - `clip=True` (EMP-SSL, solo-learn): (g + w p) * min(η‖p‖ / (‖g‖ + w‖p‖ + eps) / lr, 1).
      `lr` is an upper limit of the layer-wise rate, not a factor. If ‖p‖ or ‖g‖ is 0, the gradient
      is g, without weight decay, as in the released code.
    - `clip=False` (FFCV-SSL, VICReg, Barlow Twins): (g + w p) * η‖p‖ / ‖g + w p‖, or g + w p if
      one of the norms is 0.

    All norms stay on the device: a step needs no synchronization with the host.

    Parameters
    ----------
    params
        Parameters or parameter groups, as for `torch.optim.SGD`.
    lr
        Learning rate, >= 0.
    momentum
        Momentum, in [0, 1).
    weight_decay
        Weight decay w, >= 0.
    eta
        Trust coefficient η, > 0. Published values: 0.005 with `clip`, 0.001 without.
    clip
        Which of the two forms to use.
    nesterov
        Whether to use Nesterov momentum; requires `momentum` > 0.
    exclude_1d
        Whether parameters with at most one axis (biases, normalization) take a plain SGD step,
        without adaptive rate and weight decay.
    eps
        Constant in the denominator of the form `clip=True`.

    Raises
    ------
    ValueError
        If a parameter is out of range, or `nesterov` is set without momentum.

    References
    ----------
    You et al., arXiv 1708.03888, algorithm 1.

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Linear(3, 2)
    >>> optimizer = LARS(layer.parameters(), lr=0.2, weight_decay=1e-4)
    >>> layer(torch.ones(4, 3)).sum().backward()
    >>> optimizer.step()
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eta: float = 0.001,
        clip: bool = False,
        nesterov: bool = False,
        exclude_1d: bool = True,
        eps: float = 1e-8,
    ) -> None:
        if lr < 0 or weight_decay < 0 or not 0 <= momentum < 1 or eta <= 0:
            raise ValueError(
                "LARS: lr and weight_decay must be >= 0, momentum in [0, 1), eta > 0, "
                f"got lr={lr}, weight_decay={weight_decay}, momentum={momentum}, eta={eta}."
            )
        if nesterov and momentum == 0:
            raise ValueError("LARS: nesterov requires momentum > 0.")
        options = {"momentum": momentum, "weight_decay": weight_decay, "eta": eta, "clip": clip}
        options |= {"nesterov": nesterov, "exclude_1d": exclude_1d, "eps": eps}
        super().__init__(params, {"lr": lr, **options})

    @torch.no_grad()
    def step(  # type: ignore[override]  # torch overloads it
        self, closure: Callable[[], float] | None = None
    ) -> float | None:
        """Take one step; parameters without gradient keep their values.

        Parameters
        ----------
        closure
            Function that computes the gradients again and returns the loss.

        Returns
        -------
        The loss that `closure` returned, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            with_gradient = [p for p in group["params"] if p.grad is not None]
            plain = [p for p in with_gradient if group["exclude_1d"] and p.ndim <= 1]
            adapted = [p for p in with_gradient if not (group["exclude_1d"] and p.ndim <= 1)]
            if adapted:
                self._descend(group, adapted, _adapted_gradients(adapted, group))
            if plain:
                self._descend(group, plain, [p.grad.clone() for p in plain])
        return loss

    def _descend(
        self, group: dict[str, Any], params: list[Tensor], gradients: list[Tensor]
    ) -> None:
        """Update momentum and parameters as `torch.optim.SGD` does; overwrites `gradients`."""
        if group["momentum"] > 0:
            buffers = []
            for p in params:
                state = self.state[p]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                buffers.append(state["momentum_buffer"])
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, gradients)
            if group["nesterov"]:
                torch._foreach_add_(gradients, buffers, alpha=group["momentum"])
            else:
                gradients = buffers
        torch._foreach_add_(params, gradients, alpha=-group["lr"])


def _adapted_gradients(params: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
    """Return gradients with weight decay and the layer-wise rate applied, as new tensors."""
    gradients = [p.grad for p in params if p.grad is not None]
    decayed = list(torch._foreach_add(gradients, params, alpha=group["weight_decay"]))
    param_norms = torch.stack(torch._foreach_norm(params))
    one = torch.ones_like(param_norms)
    if group["clip"]:
        gradient_norms = torch.stack(torch._foreach_norm(gradients))
        denominators = gradient_norms + group["weight_decay"] * param_norms + group["eps"]
        trust = group["eta"] * param_norms / denominators
        # The step multiplies by lr, so that the layer-wise rate is min(trust, lr). At lr = 0 the
        # quotient is infinite and the factor is 1.
        factors = torch.minimum(trust / group["lr"] if group["lr"] > 0 else one, one)
        # As in the released code, a zero gradient gets no weight decay either.
        factors = torch.where(gradient_norms > 0, factors, torch.zeros_like(one))
    else:
        decayed_norms = torch.stack(torch._foreach_norm(decayed))
        factors = torch.where(decayed_norms > 0, group["eta"] * param_norms / decayed_norms, one)
    factors = torch.where(param_norms > 0, factors, one)
    torch._foreach_mul_(decayed, list(factors.unbind()))
    return decayed
