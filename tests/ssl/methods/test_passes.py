"""Forward passes over parts of a batch, and recomputed activations."""

import pytest
import torch
from torch import nn

from ffcv_ssl.ssl import (
    BYOL,
    EmpProjector,
    EmpSSL,
    Normalize,
    SimCLR,
    byol_predictor,
    resnet18,
    simclr_projector,
)
from ffcv_ssl.ssl.methods.method import running_statistics_kept

METHODS = ("simclr", "emp_ssl", "byol")


def small_method(name, with_batch_norm=True):
    """Build a ResNet-18 of width 2, or a float64 network without batch normalization.

    The weights are the same at every call.
    """
    torch.manual_seed(0)
    normalize = Normalize([127.5] * 3, [127.5] * 3)
    if not with_batch_norm:
        network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten())
        projector, predictor = nn.Linear(36, 8), nn.Linear(8, 8)
    else:
        network = resnet18(width=2, stem="cifar_stride2")
        make = EmpProjector if name == "emp_ssl" else simclr_projector
        projector, predictor = make(network.num_features, 16, 8), byol_predictor(8, 16)
    methods = {"simclr": SimCLR, "emp_ssl": EmpSSL}
    method = (
        BYOL(network, projector, predictor, normalize)
        if name == "byol"
        else methods[name](network, projector, normalize)
    )
    return method if with_batch_norm else method.double()


def views(num_images=6, num_views=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(
        0, 256, (num_images, num_views, 3, 8, 8), dtype=torch.uint8, generator=generator
    )


def gradients(method):
    """Return the loss and the gradients of one step."""
    loss, _ = method(views())
    loss.backward()
    return [loss.detach(), *(p.grad for p in method.parameters() if p.requires_grad)]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("images", "some_views"), [(0, 0), (4, 0), (2, 1)])
def test_recompute__same_bits_and_statistics_once(name, images, some_views):
    """Recomputation changes no bit of gradients, running statistics and batch counts."""
    plain, recomputing = small_method(name), small_method(name)
    for method in (plain, recomputing):
        method.images_per_forward, method.views_per_forward = images, some_views
    recomputing.recompute = True
    for _ in range(2):
        for expected, found in zip(gradients(plain), gradients(recomputing), strict=True):
            assert torch.equal(found, expected)
    num_passes = (2 if images == 4 else 3 if images == 2 else 1) * (3 if some_views else 1)
    assert plain.backbone.bn1.num_batches_tracked == 2 * num_passes
    for (key, expected), found in zip(
        plain.state_dict().items(), recomputing.state_dict().values(), strict=True
    ):
        assert torch.equal(found, expected), key


def test_passes__are_as_even_as_can_be():
    """16 images in passes of at most 5 give four passes of 4, not a last pass of one image."""
    method = small_method("simclr")
    method.images_per_forward, method.views_per_forward = 5, 1
    assert [[len(part) for part in row] for row in method.passes(views(16))] == [[4] * 3] * 4
    assert [len(row[0]) for row in method.passes(views(11))] == [4, 4, 3]
    method(views(16))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(("images", "some_views"), [(2, 0), (4, 0), (4, 1)])
def test_passes__have_the_gradients_of_the_whole_batch(name, recompute, images, some_views):
    """Without batch normalization loss and gradients do not depend on the passes."""
    whole, parts = (
        small_method(name, with_batch_norm=False),
        small_method(name, with_batch_norm=False),
    )
    parts.images_per_forward, parts.views_per_forward, parts.recompute = (
        images,
        some_views,
        recompute,
    )
    for expected, found in zip(gradients(whole), gradients(parts), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_images_per_forward__separates_batch_statistics():
    """Two passes of three images equal two batches of three images."""
    parts, joint = small_method("simclr"), small_method("simclr")
    parts.images_per_forward = 3
    by_hand = torch.cat([joint.embed(some) for some in views().split(3)])
    assert torch.equal(parts.embed(views()), by_hand)
    assert not torch.allclose(by_hand, joint.embed(views()), atol=1e-3)


@pytest.mark.parametrize("name", METHODS)
def test_recompute__discards_activations(name):
    """With recomputation the graph saves less than a quarter of the bytes."""

    def saved_bytes(recompute):
        method, storages = small_method(name), {}
        method.recompute = recompute
        own = {tensor.data_ptr() for tensor in [*method.parameters(), *method.buffers()]}

        def keep(tensor):
            if tensor.data_ptr() not in own:
                storages[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            method(views())
        return sum(storages.values())

    assert saved_bytes(True) < 0.25 * saved_bytes(False)


def test_running_statistics_kept__also_after_an_error():
    """The context restores the original buffers and their values, also after an error."""
    layer = nn.BatchNorm1d(3)
    before = dict(layer.named_buffers())
    values = {name: buffer.clone() for name, buffer in before.items()}

    def fail():
        with running_statistics_kept(nn.Sequential(layer)):
            layer(torch.randn(4, 3))
            assert layer.num_batches_tracked == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    for name, buffer in layer.named_buffers():
        assert buffer is before[name]
        assert torch.equal(buffer, values[name])
