"""Tests of the evaluation of features on .beton files."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ffcv_ssl import views
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.evaluate import Evaluation, features, raw_pixels
from ffcv_ssl.evaluate.encoding import Features
from ffcv_ssl.fields import IntField, RGBImageField
from ffcv_ssl.ssl import Normalize, SimCLR, resnet18, simclr_projector
from ffcv_ssl.train import DataConfig, EvalConfig, frozen
from ffcv_ssl.writer import DatasetWriter

CPU = torch.device("cpu")
CONFIG = EvalConfig(batch_size=7, k=5, linear_epochs=200)


class Samples:
    """Images whose gray level depends on the class; the first pixel holds the sample's index."""

    def __init__(self, num_samples, with_labels=True):
        self.num_samples, self.with_labels = num_samples, with_labels

    def __len__(self):
        return self.num_samples

    def __getitem__(self, index):
        image = np.random.default_rng(index).integers(
            0, 20, (16, 16, 3), dtype=np.uint8
        ) + np.uint8(50 * (index % 4))
        image[0, 0] = index
        return (image, index % 4) if self.with_labels else (image,)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Write a training file of 40 samples and a validation file of 17 samples."""
    folder = tmp_path_factory.mktemp("data")
    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    for name, num_samples in (("train", 40), ("val", 17)):
        DatasetWriter(
            folder / f"{name}.beton", fields, num_workers=1, progress=False
        ).from_indexed_dataset(Samples(num_samples))
    flat = DatasetWriter(
        folder / "flat.beton", {"image": fields["image"]}, num_workers=1, progress=False
    )
    flat.from_indexed_dataset(Samples(9, with_labels=False))
    return DataConfig(train=str(folder / "train.beton"), val=str(folder / "val.beton"), workers=0)


def test_evaluation__sees_every_sample_once_in_order(data):
    """An evaluation encodes all 40 and 17 samples in order, including the last incomplete batch."""
    with Evaluation(data, CONFIG, views.plain(16, ratio=1.0), CPU) as evaluation:
        features = evaluation.features(raw_pixels)
    for found, labels, num_samples in (
        (features.train, features.train_labels, 40),
        (features.val, features.val_labels, 17),
    ):
        assert found.shape == (num_samples, 768)
        assert torch.equal(((found[:, 0] + 0.5) * 255).round(), torch.arange(num_samples).float())
        assert torch.equal(labels, torch.arange(num_samples) % 4)


def test_evaluation__scores_are_those_of_the_features(data):
    """Features of the gray level score high, constant ones low; calls are repeatable."""
    with Evaluation(data, CONFIG, views.plain(16, ratio=1.0), CPU) as evaluation:
        levels = torch.tensor([10.0, 60.0, 110.0, 160.0])
        good = evaluation.scores(
            lambda images: -(images.float().mean(dim=(1, 2, 3))[:, None] - levels).abs()
        )
        again = evaluation.features(
            lambda images: -(images.float().mean(dim=(1, 2, 3))[:, None] - levels).abs()
        )
        assert evaluation.quick(again) == {"knn": good["knn"], "rankme": good["rankme"]}
        constant = evaluation.scores(lambda images: torch.ones(len(images), 4))
    assert good["knn"] > 0.9
    assert good["linear"] > 0.9
    assert good["num_features"] == 4
    assert "mlp" not in good
    assert constant["knn"] < 0.5
    assert constant["rankme"] == pytest.approx(1, rel=1e-3)


def test_evaluation__mlp_separates_nonlinear_classes(data):
    """A classifier with a hidden layer separates classes that a linear classifier cannot."""
    config = replace(CONFIG, linear_epochs=20, mlp_epochs=300)
    with Evaluation(data, config, views.plain(16, ratio=1.0), CPU) as evaluation:
        labels = evaluation.features(raw_pixels).train_labels
        points = torch.randn(len(labels), 2, generator=torch.Generator().manual_seed(0))
        inside = (points.norm(dim=1) < points.norm(dim=1).median()).long()
        scores = evaluation.full(Features(points, inside, points, inside))
    assert scores["linear"] < 0.75
    assert scores["mlp"] > 0.9


def test_evaluation__averages_a_bag_of_patches(data):
    """A sample's feature is the mean over its random patches, the same in every call."""
    pipeline = views.emp_ssl(8, n=6, patch=8)
    with Evaluation(data, CONFIG, pipeline, CPU, num_views=6, seed=3) as evaluation:
        seen = []

        def encoder(images):
            seen.append(len(images))
            return raw_pixels(images)

        features = evaluation.features(encoder)
        again = evaluation.features(raw_pixels)
        batch = next(iter(evaluation.loaders[1]))  # epoch 1
    assert set(seen) == {6}  # one image of six patches: the batch size counts patches
    assert features.train.shape == (40, 192)
    assert torch.equal(features.train, again.train)
    assert batch.image.shape == (1, 6, 3, 8, 8)


def test_evaluation__without_validation_file_measures_nothing(data):
    """Without data.val, an evaluation opens no file and returns no scores."""
    with Evaluation(
        DataConfig(train=data.train), CONFIG, views.plain(16, ratio=1.0), CPU
    ) as evaluation:
        assert evaluation.scores(raw_pixels) == {}


def test_evaluation__refuses_files_without_labels(data):
    """A file without the label field raises a ConfigError."""
    flat = data.train.replace("train.beton", "flat.beton")
    with pytest.raises(ConfigError, match="has no field 'label'"):
        Evaluation(
            DataConfig(train=flat, val=data.val, workers=0), CONFIG, views.plain(16, ratio=1.0), CPU
        )


def test_check_cost__rejects_large_and_warns_about_slow_classifiers(data, monkeypatch, caplog):
    """A classifier that needs too much memory raises, and one that takes hours on a CPU warns."""
    monkeypatch.setattr(features, "SLOW_ON_A_CPU", 1e12)
    for config, name in (
        (CONFIG, "linear"),
        (replace(CONFIG, linear_epochs=0, mlp_epochs=200), "mlp"),
    ):
        with Evaluation(data, config, views.plain(16, ratio=1.0), CPU) as evaluation:
            evaluation.check_cost(512)
            assert caplog.messages == []
            # 3 passes x 200 epochs x 40 images x weights
            evaluation.check_cost(30 * 10**6 if name == "linear" else 10**5)
            assert (
                f"the {name} classifier of the evaluation, for 4 classes, will take hours on a CPU"
                in caplog.text
            )
            with pytest.raises(
                ConfigError,
                match=rf"the {name} classifier .* for 4 classes would take .* GB"
                rf".*eval.{name}_epochs=0",
            ):
                evaluation.check_cost(10**8)
        caplog.clear()
    with Evaluation(
        data, replace(CONFIG, linear_epochs=0), views.plain(16, ratio=1.0), CPU
    ) as evaluation:
        evaluation.check_cost(10**9)


def test_frozen__restores_the_mode_and_keeps_the_statistics():
    """A frozen network has no gradients and keeps its statistics; its mode is restored."""
    torch.manual_seed(0)
    network = resnet18(width=2, stem="cifar")
    method = SimCLR(
        network, simclr_projector(network.num_features, 8, 4), Normalize([127.5] * 3, [127.5] * 3)
    ).train()
    before = network.bn1.running_mean.clone()
    with frozen(method):
        features = method.features(torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8))
        assert not method.training
    assert not features.requires_grad
    assert method.training
    assert torch.equal(network.bn1.running_mean, before)
