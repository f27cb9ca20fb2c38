"""LARS in its two published forms, without a host synchronisation per tensor."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def parameter_groups(model: nn.Module, weight_decay: float, exclude_1d: bool) -> list[dict[str, Any]]:
    """Split the parameters so that biases and normalization (one axis or none) get no weight decay.

    Parameters
    ----------
    model
        Parameters without gradient are left out.
    weight_decay
        Of all other parameters.
    exclude_1d
        False puts everything into one group.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not exclude_1d:
        return [{"params": parameters, "weight_decay": weight_decay}]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


class LARS(Optimizer):
    """SGD with momentum whose step is scaled, tensor by tensor, to the tensor's own length.

    With p a tensor, g its gradient, w the weight decay and η the trust coefficient:

    - `clip=True` (EMP-SSL, solo-learn): the gradient is (g + w p) · min(η‖p‖ / (‖g‖ + w‖p‖ + eps) / lr, 1), so `lr` is only a ceiling of
      the step while the trust is smaller. Where ‖p‖ or ‖g‖ is 0 it is g, undecayed, as released.
    - `clip=False` (FFCV-SSL, VICReg, Barlow Twins): the gradient is (g + w p) · η‖p‖ / ‖g + w p‖, or g + w p where a norm is 0.

    Tensors with at most one axis (biases, normalization) are neither adapted nor decayed when `exclude_1d` is set.

    Parameters
    ----------
    params
        Parameters or groups, as for `torch.optim.SGD`.
    lr
        Learning rate, >= 0.
    momentum
        In [0, 1).
    weight_decay
        >= 0.
    eta
        Trust coefficient η > 0: .005 with `clip`, .001 without.
    clip, nesterov, exclude_1d
        See above; `nesterov` needs momentum.
    eps
        Keeps the quotient of `clip=True` finite.

    References
    ----------
    You et al., arXiv 1708.03888.
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
    ):
        if lr < 0 or weight_decay < 0 or not 0 <= momentum < 1 or eta <= 0:
            raise ValueError(
                "LARS: lr and weight_decay must be >= 0, momentum in [0, 1), eta > 0, "
                f"got lr={lr}, weight_decay={weight_decay}, momentum={momentum}, eta={eta}."
            )
        if nesterov and momentum == 0:
            raise ValueError("LARS: nesterov needs a momentum above 0.")
        options = {"momentum": momentum, "weight_decay": weight_decay, "eta": eta, "clip": clip}
        options |= {"nesterov": nesterov, "exclude_1d": exclude_1d, "eps": eps}
        super().__init__(params, {"lr": lr, **options})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # torch overloads it
        """Take one step; tensors without gradient stay as they are."""
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

    def _descend(self, group: dict[str, Any], params: list[Tensor], gradients: list[Tensor]) -> None:
        """Momentum and step, as in `torch.optim.SGD`; `gradients` are overwritten."""
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
    """Gradients with weight decay and trust applied, as new tensors; all norms stay on the device."""
    gradients = [p.grad for p in params if p.grad is not None]
    decayed = list(torch._foreach_add(gradients, params, alpha=group["weight_decay"]))
    param_norms = torch.stack(torch._foreach_norm(params))
    one = torch.ones_like(param_norms)
    if group["clip"]:
        gradient_norms = torch.stack(torch._foreach_norm(gradients))
        trust = group["eta"] * param_norms / (gradient_norms + group["weight_decay"] * param_norms + group["eps"])
        # A ceiling of `lr` on the trust; multiplied by `lr` in the step. At lr = 0 the quotient is infinite and the factor 1.
        factors = torch.minimum(trust / group["lr"] if group["lr"] > 0 else one, one)
        factors = torch.where(gradient_norms > 0, factors, torch.zeros_like(one))  # released: no gradient, no decay either
    else:
        decayed_norms = torch.stack(torch._foreach_norm(decayed))
        factors = torch.where(decayed_norms > 0, group["eta"] * param_norms / decayed_norms, one)
    factors = torch.where(param_norms > 0, factors, one)
    torch._foreach_mul_(decayed, list(factors.unbind()))
    return decayed
