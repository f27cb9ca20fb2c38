"""kNN and the linear probe on features with a known answer."""

import math
from itertools import pairwise

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.ssl import knn_accuracy, knn_predictions, linear_probe
from ffcv_ssl.ssl.probes import memory, offline


def blobs(num_samples, seed, num_classes=4, noise=0.6):
    generator = torch.Generator().manual_seed(seed)
    centers = 3 * torch.eye(num_classes, 8)
    labels = torch.arange(num_samples) % num_classes
    return centers[labels] + noise * torch.randn(num_samples, 8, generator=generator), labels


def test_knn_predictions__equals_naive_vote():
    """Predictions equal a float64 loop over neighbors with weights exp(cosine / T)."""
    generator = torch.Generator().manual_seed(0)
    bank, queries = torch.randn(60, 5, generator=generator), torch.randn(17, 5, generator=generator)
    labels = torch.randint(0, 3, (60,), generator=generator)
    expected = []
    for query in queries.double():
        cosines = [
            (float(query @ row / query.norm() / row.norm()), int(label))
            for row, label in zip(bank.double(), labels, strict=True)
        ]
        votes = [0.0, 0.0, 0.0]
        for cosine, label in sorted(cosines, reverse=True)[:20]:
            votes[label] += math.exp(cosine / 0.07)
        expected.append(votes.index(max(votes)))
    assert knn_predictions(bank, labels, queries, k=20, temperature=0.07).tolist() == expected


def test_knn_accuracy__is_scale_free_and_right_on_blobs():
    """Separated blobs are classified correctly, for features of any length and for any k."""
    train, train_labels = blobs(200, seed=0)
    val, val_labels = blobs(80, seed=1)
    assert knn_accuracy(train, train_labels, val, val_labels) > 0.95
    assert knn_accuracy(train, train_labels, 100 * val, val_labels) == knn_accuracy(
        train, train_labels, val, val_labels
    )
    assert 0 <= knn_accuracy(train, train_labels, val, val_labels, k=10_000) <= 1


def test_linear_probe__learns_blobs_and_returns_last_best_train():
    """The probe learns separable features; last <= best; equal seeds give equal results."""
    train, train_labels = blobs(200, seed=0)
    val, val_labels = blobs(80, seed=1)
    probe = linear_probe(train, train_labels, val, val_labels, epochs=10)
    assert probe.last > 0.95
    assert probe.last <= probe.best
    assert probe.train > 0.95
    assert probe == linear_probe(train, train_labels, val, val_labels, epochs=10)


def test_linear_probe__standardizing_makes_scale_harmless():
    """Features scaled by 1e-3 and shifted give the same accuracy when standardized."""
    train, train_labels = blobs(200, seed=0)
    val, val_labels = blobs(80, seed=1)
    plain = linear_probe(train, train_labels, val, val_labels, epochs=5)
    scaled = linear_probe(5 + 1e-3 * train, train_labels, 5 + 1e-3 * val, val_labels, epochs=5)
    assert scaled.last == pytest.approx(plain.last, abs=0.02)


def test_linear_probe__leaves_the_global_generator_alone():
    """The probe does not change torch's global generator."""
    train, labels = blobs(40, seed=0)
    before = torch.get_rng_state()
    linear_probe(train, labels, train, labels, epochs=2)
    assert torch.equal(torch.get_rng_state(), before)


def naive_probe(
    train, labels, val, hidden, optimizer, lr, epochs, batch_size, smoothing, cosine, seed=0
):
    """Train the classifier with torch's own modules, in the order of draws of `linear_probe`."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [train.shape[1], *([hidden] if hidden else []), int(labels.max()) + 1]
    layers = []
    for num_in, num_out in pairwise(sizes):
        layer = torch.nn.Linear(num_in, num_out)
        with torch.no_grad():
            layer.weight.uniform_(-(num_in**-0.5), num_in**-0.5, generator=generator)
            layer.bias.zero_()
        layers += [layer, torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers[:-1])
    make = {
        "sgd": lambda p: torch.optim.SGD(p, lr=lr, momentum=0.9, weight_decay=5e-5),
        "adam": lambda p: torch.optim.Adam(p, lr=lr),
    }
    descent = make[optimizer](network.parameters())
    steps = epochs * math.ceil(len(train) / batch_size)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(descent, steps) if cosine else None
    loss = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)
    for _ in range(epochs):
        for batch in torch.randperm(len(train), generator=generator).split(batch_size):
            descent.zero_grad()
            loss(network(train[batch]), labels[batch]).backward()
            descent.step()
            if fall is not None:
                fall.step()
    return network(val)


@pytest.mark.parametrize(
    ("hidden", "optimizer", "smoothing", "cosine"),
    [
        (0, "sgd", 0.0, True),
        (0, "adam", 0.1, False),
        (16, "adam", 0.0, True),
        (16, "sgd", 0.2, True),
    ],
)
def test_linear_probe__equals_torchs_own_modules(hidden, optimizer, smoothing, cosine):
    """Every option gives the accuracy of the same training with torch's own modules."""
    train, train_labels = blobs(150, seed=0, noise=2.0)
    val, val_labels = blobs(333, seed=1, noise=2.0)
    options = {"epochs": 4, "batch_size": 32, "lr": 0.05 if optimizer == "sgd" else 0.01}
    logits = naive_probe(
        train, train_labels, val, hidden, optimizer, smoothing=smoothing, cosine=cosine, **options
    )
    expected = (logits.argmax(dim=1) == val_labels).double().mean().item()
    decay = {"weight_decay": 0.0} if optimizer == "adam" else {}
    more = {
        "hidden": hidden,
        "optimizer": optimizer,
        "label_smoothing": smoothing,
        "cosine": cosine,
        "standardize": False,
        **decay,
    }
    probe = linear_probe(train, train_labels, val, val_labels, **options, **more)
    assert 0.4 < expected < 0.95
    assert probe.last == pytest.approx(expected, abs=1.5 / len(val))


def test_linear_probe__hidden_layer_learns_what_no_line_separates():
    """Classes in opposite quadrants need the hidden layer."""
    points = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    labels = (points[:, 0] * points[:, 1] > 0).long()
    options = {"epochs": 60, "batch_size": 50, "lr": 0.02, "optimizer": "adam"}
    assert linear_probe(points, labels, points, labels, **options).last < 0.7
    assert linear_probe(points, labels, points, labels, hidden=32, **options).last > 0.95


def test_knn_predictions__infinite_temperature_counts_neighbors():
    """At infinite temperature the majority wins; of tied labels the lowest."""
    bank = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    query = torch.tensor([[1.0, 0.0]])
    assert knn_predictions(
        bank, torch.tensor([0, 1, 1]), query, k=3, temperature=0.07
    ).tolist() == [0]
    assert knn_predictions(
        bank, torch.tensor([0, 1, 1]), query, k=3, temperature=math.inf
    ).tolist() == [1]
    assert knn_predictions(
        bank, torch.tensor([1, 0, 2]), query, k=3, temperature=math.inf
    ).tolist() == [0]


class LargestTensor(TorchDispatchMode):
    """Record the size in bytes of the largest tensor that any operation returns."""

    num_bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for value in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(value, torch.Tensor):
                self.num_bytes = max(self.num_bytes, value.numel() * value.element_size())
        return out


def small_blocks(monkeypatch, num_bytes):
    for module in (memory, offline):
        monkeypatch.setattr(module, "BLOCK_BYTES", num_bytes)


@pytest.mark.parametrize(("k", "temperature"), [(20, 0.07), (3, math.inf), (300, 0.1)])
def test_knn_predictions__in_blocks_equals_all_at_once(monkeypatch, k, temperature):
    """Blocks of queries and of the bank, also smaller than k, change no prediction."""
    bank, labels = blobs(300, seed=0, noise=3.0)
    queries, _ = blobs(90, seed=1, noise=3.0)
    expected = knn_predictions(bank, labels, queries, k=k, temperature=temperature)
    small_blocks(monkeypatch, 5_000)
    assert torch.equal(
        knn_predictions(bank, labels, queries, k=k, temperature=temperature), expected
    )
    assert len(expected.unique()) > 1


def test_knn_predictions__takes_any_labels():
    """Labels far apart or negative get the same votes as 0 to C-1."""
    bank, labels = blobs(200, seed=0, noise=3.0)
    queries, query_labels = blobs(100, seed=1, noise=3.0)
    ids = torch.tensor([-(2**62), -1, 7, 900_000_007])
    assert torch.equal(
        knn_predictions(bank, ids[labels], queries), ids[knn_predictions(bank, labels, queries)]
    )
    assert knn_accuracy(bank, ids[labels], queries, ids[query_labels]) == knn_accuracy(
        bank, labels, queries, query_labels
    )


def test_classifiers__memory_does_not_follow_labels_or_classes(monkeypatch):
    """No table of queries x classes, queries x bank or samples x classes is ever held."""
    monkeypatch.setattr(offline, "QUERIES", 256)
    small_blocks(monkeypatch, 2**20)
    generator = torch.Generator().manual_seed(0)
    labels = 10**9 * torch.arange(4000).repeat(2)
    features = torch.randn(8000, 4, generator=generator)
    with LargestTensor() as largest:
        accuracy = knn_accuracy(features, labels, features, labels, k=1)
        probe = linear_probe(
            features, labels, features[:500], labels[:500], epochs=1, batch_size=50
        )
    assert accuracy == 1.0
    assert 0 <= probe.last <= probe.best <= 1
    # Features: 2^17 bytes. Queries x bank: 2^23. Samples x classes: 2^27.
    assert largest.num_bytes <= 2**20


def test_linear_probe__labels_are_the_classes_that_occur():
    """Relabeled classes give the same classifier; an unknown validation label is never correct."""
    train, labels = blobs(200, seed=0)
    val, val_labels = blobs(80, seed=1)
    ids = torch.tensor([-7, 0, 5, 900_000_000])
    plain = linear_probe(train, labels, val, val_labels, epochs=3)
    assert linear_probe(train, ids[labels], val, ids[val_labels], epochs=3) == plain
    assert linear_probe(train, labels, val, val_labels + 10, epochs=3).last == 0


def test_linear_probe__refuses_a_classifier_that_needs_too_much_memory(monkeypatch):
    """A classifier above the memory limit raises a ConfigError before training."""
    monkeypatch.setattr(memory, "CLASSIFIER_BYTES", 10_000)
    train, labels = blobs(200, seed=0)
    linear_probe(train, labels, train, labels, epochs=1, batch_size=10)
    with pytest.raises(
        ConfigError,
        match=r"the classifier for 200 classes would take 0.0 GB of memory.*Are the labels ids",
    ):
        linear_probe(train, torch.arange(200), train, labels, epochs=1, batch_size=10)
