"""kNN and the linear probe on features whose answer is known."""

import math

import pytest
import torch

from ffcv_ssl.ssl import knn_accuracy, knn_predictions, linear_probe


def blobs(num_samples, seed, num_classes=4, noise=0.6):
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.eye(num_classes, 8)
    labels = torch.arange(num_samples) % num_classes
    return centres[labels] + noise * torch.randn(num_samples, 8, generator=generator), labels


def test_knn_predictions__equals_naive_vote():
    """Predictions equal a float64 loop over neighbours with weights exp(cosine / T)."""
    generator = torch.Generator().manual_seed(0)
    bank, queries = torch.randn(60, 5, generator=generator), torch.randn(17, 5, generator=generator)
    labels = torch.randint(0, 3, (60,), generator=generator)
    expected = []
    for query in queries.double():
        cosines = [(float(query @ row / query.norm() / row.norm()), int(label)) for row, label in zip(bank.double(), labels, strict=True)]
        votes = [0.0, 0.0, 0.0]
        for cosine, label in sorted(cosines, reverse=True)[:20]:
            votes[label] += math.exp(cosine / 0.07)
        expected.append(votes.index(max(votes)))
    assert knn_predictions(bank, labels, queries, num_classes=3, k=20, temperature=0.07).tolist() == expected


def test_knn_accuracy__is_scale_free_and_right_on_blobs():
    """Separated blobs are classified rightly, whatever the length of the features and with more neighbours asked than there are."""
    train, train_labels = blobs(200, seed=0)
    val, val_labels = blobs(80, seed=1)
    assert knn_accuracy(train, train_labels, val, val_labels) > 0.95
    assert knn_accuracy(train, train_labels, 100 * val, val_labels) == knn_accuracy(train, train_labels, val, val_labels)
    assert 0 <= knn_accuracy(train, train_labels, val, val_labels, k=10_000) <= 1


def test_linear_probe__learns_blobs_and_says_last_best_train():
    """The classifier learns separable features; last is at most best; the same seed gives the same numbers."""
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
    """Probing between two steps of training cannot change the training."""
    train, labels = blobs(40, seed=0)
    before = torch.get_rng_state()
    linear_probe(train, labels, train, labels, epochs=2)
    assert torch.equal(torch.get_rng_state(), before)
