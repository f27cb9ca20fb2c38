"""Online probes against a naive loop, for every way in which methods pass their views."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ffcv_ssl.ssl import (
    BYOL,
    EmpProjector,
    InstanceSimCLR,
    Normalize,
    OnlineProbes,
    SimCLR,
    byol_predictor,
    resnet18,
    simclr_projector,
)
from ffcv_ssl.ssl.probes.online import projector_layers

NUM_CLASSES = 3


class Pixels(nn.Module):
    """A backbone whose features are pixels."""

    num_features = 12

    def forward(self, images):
        return images.flatten(1)


def small_method(name="simclr", views_per_forward=0):
    """Build a method with a ResNet-18 of width 2; the weights are the same at every call."""
    torch.manual_seed(0)
    network, normalize = (
        resnet18(width=2, stem="cifar_stride2"),
        Normalize([127.5] * 3, [127.5] * 3),
    )
    projector = simclr_projector(network.num_features, 12, 7)
    method = (
        BYOL(network, projector, byol_predictor(7, 5), normalize)
        if name == "byol"
        else SimCLR(network, projector, normalize)
    )
    method.views_per_forward = views_per_forward
    return method


def batch(num_images=4, num_views=3, side=8):
    """Return views and labels, the same at every call."""
    generator = torch.Generator().manual_seed(1)
    views = torch.randint(
        0, 256, (num_images, num_views, 3, side, side), generator=generator, dtype=torch.uint8
    )
    return views, torch.arange(num_images) % NUM_CLASSES


def watched_step(probes, method, views, labels):
    """Run one forward pass of the method and one step of the probes."""
    with probes.watching():
        loss, _ = method(views)
    return loss, probes.step(labels, views.shape[1])


@pytest.mark.parametrize(
    ("projector", "ends"),
    [
        (simclr_projector(4, 5, 6, num_layers=3), [(nn.ReLU, 5), (nn.ReLU, 5), (nn.Linear, 6)]),
        (simclr_projector(4, 5, 6, batch_norm=False), [(nn.ReLU, 5), (nn.Linear, 6)]),
        (EmpProjector(4, 5, 6), [(nn.ReLU, 5), (nn.ReLU, 5), (nn.Linear, 6)]),
        (nn.Sequential(nn.Dropout(), nn.Linear(4, 5), nn.BatchNorm1d(5)), [(nn.BatchNorm1d, 5)]),
        (nn.Linear(4, 6), [(nn.Linear, 6)]),
    ],
)
def test_projector_layers__end_before_the_next_linear(projector, ends):
    """A layer includes its normalization and ReLU; its width is that of the linear module."""
    found = projector_layers(projector)
    assert [(type(module), width) for module, width in found] == ends


@pytest.mark.parametrize("views_per_forward", [0, 1, 2])
@pytest.mark.parametrize("name", ["simclr", "byol"])
def test_step__equals_naive_loop(name, views_per_forward):
    """Losses and weights after three steps match float64 classifiers trained view by view."""
    # In evaluation mode the features of a view do not depend on the other views.
    method = small_method(name, views_per_forward).eval()
    views, labels = batch()
    probes = OnlineProbes(method, NUM_CLASSES, nonlinear=True, layers=True, lr=0.01, hidden=9)
    twins = {
        probe: [p.detach().double().requires_grad_() for p in module.parameters()]
        for probe, module in probes.classifiers.items()
    }
    optimizer = torch.optim.AdamW([p for twin in twins.values() for p in twin], lr=0.01)
    with torch.no_grad():
        features = {
            "": [[method.features(view[None]).double() for view in image] for image in views]
        }
        features["_layer1"] = [
            [method.projector[:3](view.float()).double() for view in image]
            for image in features[""]
        ]
        features["_layer2"] = [
            [method.projector(view.float()).double() for view in image] for image in features[""]
        ]
    for _ in range(3):
        _, logs = watched_step(probes, method, views, labels)
        total = 0
        for probe, twin in twins.items():
            losses = []
            for image, label in zip(
                features[probe.replace("online_linear", "").replace("online_mlp", "")],
                labels,
                strict=True,
            ):
                for view in image:
                    x = view
                    for weight, bias in zip(twin[0::2], twin[1::2], strict=True):
                        x = (x if x is view else x.relu()) @ weight.T + bias
                    losses.append(F.cross_entropy(x, label[None]))
            assert len(losses) == 12
            loss = sum(losses) / len(losses)
            assert logs[f"{probe}_loss"].item() == pytest.approx(loss.item(), rel=1e-5)
            total = total + loss
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert len(twins) == 4
    for probe, twin in twins.items():
        for found, expected in zip(probes.classifiers[probe].parameters(), twin, strict=True):
            torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-5)


def test_step__pairs_views_with_their_image():
    """Labels stay paired with views if a method passes its views in parts, and twice."""
    method = InstanceSimCLR(
        Pixels(), nn.Linear(12, 5), Normalize([0.0] * 3, [255.0] * 3), noise=0.1
    )
    method.images_per_forward, method.views_per_forward = 4, 2
    views = (
        torch.diag(torch.full((12,), 255, dtype=torch.uint8))[:6]
        .view(6, 1, 3, 2, 2)
        .expand(6, 3, 3, 2, 2)
    )
    probes = OnlineProbes(method, NUM_CLASSES, lr=0.1)
    for _ in range(20):
        _, logs = watched_step(probes, method, views, torch.tensor([2, 0, 1, 0, 2, 1]))
    assert logs["online_linear_accuracy"] == 1


def test_step__gives_the_method_no_gradient():
    """The method's gradients equal those without probes to the bit."""
    views, labels = batch()
    gradients = []
    for is_watched in (True, False):
        method = small_method()
        if is_watched:
            loss, _ = watched_step(
                OnlineProbes(method, NUM_CLASSES, nonlinear=True, layers=True),
                method,
                views,
                labels,
            )
        else:
            loss, _ = method(views)
        assert all(p.grad is None for p in method.parameters())
        loss.backward()
        gradients.append([p.grad for p in method.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_watching__leaves_out_what_a_backward_pass_computes_again():
    """Features recomputed in the backward pass are not recorded a second time."""
    views, labels = batch()
    plain, recomputing = (small_method(views_per_forward=1) for _ in range(2))
    recomputing.encode = lambda views, encoder: plain.encode(
        views, lambda images: checkpoint(encoder, images, use_reentrant=False)
    )
    passes, logs = [], []
    recomputing.backbone.register_forward_hook(lambda *_: passes.append(1))
    for method in (plain, recomputing):
        probes = OnlineProbes(method, NUM_CLASSES, layers=True)
        with probes.watching():
            loss, _ = method(views)
        loss.backward()
        assert [len(chunks) for chunks in probes.seen.values()] == [3, 3, 3]
        logs.append(probes.step(labels, views.shape[1]))
        assert not any(probes.seen.values())
    assert len(passes) == 6
    assert logs[0] == logs[1]


def test_probes__draw_from_no_global_generator():
    """Building and training probes leaves torch's generator unchanged; seeds set the weights."""
    method, (views, labels) = small_method(), batch()
    state = torch.get_rng_state()
    probes = [OnlineProbes(method, NUM_CLASSES, nonlinear=True, seed=seed) for seed in (0, 0, 1)]
    watched_step(probes[0], method, views, labels)
    assert torch.equal(torch.get_rng_state(), state)
    fresh = OnlineProbes(method, NUM_CLASSES, nonlinear=True, seed=0)
    weights = [
        next(iter(p.classifiers.parameters())) for p in (fresh, probes[1], probes[2], probes[0])
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[3])


def test_encode__returns_features_and_predictions():
    """One pass returns the backbone's features and the class that each probe predicts."""
    method = small_method().eval()
    images = batch()[0].flatten(0, 1)
    probes = OnlineProbes(method, NUM_CLASSES, nonlinear=True, layers=True, lr=0.1, hidden=9)
    watched_step(probes, method, *batch())
    with torch.no_grad():
        found = probes.encode(images)
        features = method.features(images)
        first, second = method.projector[:3](features), method.projector(features)
        expected = [probes.classifiers[f"online_{kind}"](features) for kind in ("linear", "mlp")]
        expected += [
            probes.classifiers["online_linear_layer1"](first),
            probes.classifiers["online_linear_layer2"](second),
        ]
    assert found.shape == (12, 16 + 4)
    assert torch.equal(found[:, :16], features)
    for column, logits in enumerate(expected):
        assert found[:, 16 + column].tolist() == logits.argmax(dim=1).tolist()


def test_state__continues_bit_for_bit():
    """Probes restored between two steps end with the same weights to the bit."""
    method, (views, labels) = small_method(), batch()
    first, second = (OnlineProbes(method, NUM_CLASSES, lr=0.01, seed=seed) for seed in (0, 1))
    method.eval()
    watched_step(first, method, views, labels)
    second.load_state_dict(deepcopy(first.state_dict()))
    with first.watching(), second.watching():
        method(views)
    assert first.step(labels, views.shape[1]) == second.step(labels, views.shape[1])
    for a, b in zip(first.classifiers.parameters(), second.classifiers.parameters(), strict=True):
        assert torch.equal(a, b)
