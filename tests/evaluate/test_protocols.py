"""Tests of evaluation protocols, label subsets and statistics of embeddings."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ffcv_ssl import views
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.evaluate import (
    PROTOCOLS,
    ProbeConfig,
    balanced_subset,
    open_views,
    raw_pixels,
    spread_scores,
)
from ffcv_ssl.evaluate.protocol_views import bag_encoder, encode, grid, without_color
from ffcv_ssl.evaluate.subsets import few_labels
from ffcv_ssl.fields import IntField, RGBImageField
from ffcv_ssl.ssl import Method, Normalize, alignment, rankme
from ffcv_ssl.train import CropViews, DataConfig, EvalConfig, TrainConfig
from ffcv_ssl.transforms import MultiView, RandomHorizontalFlip, RandomPatchCrop
from ffcv_ssl.writer import DatasetWriter

CPU = torch.device("cpu")


class Noise:
    """Images of 32 x 32 random pixels, with labels 0, 1, 2 in turn."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8), index % 3


@pytest.fixture(scope="module")
def c(tmp_path_factory):
    """Return the configuration of a run whose training and validation file are the same."""
    path = str(tmp_path_factory.mktemp("noise") / "noise.beton")
    DatasetWriter(
        path, {"image": RGBImageField("raw"), "label": IntField()}, num_workers=1, progress=False
    ).from_indexed_dataset(Noise())
    data = DataConfig(train=path, val=path, workers=0)
    return SimpleNamespace(
        data=data,
        view=CropViews(size=16),
        eval=EvalConfig(),
        train=TrainConfig(epochs=1, batch_size=4, seed=5),
    )


def test_grid__is_every_second_patch_of_32_pixels(c):
    """In 32 x 32 images, the grid has 81 patches of 16 pixels, 2 pixels apart, row by row."""
    with open_views(c, c.eval, "grid", 81, CPU, "float32") as evaluation:
        batch = next(iter(evaluation.loaders[0]))
    for index in (0, 5):
        image = Noise()[index][0]
        expected = [
            image[top : top + 16, left : left + 16]
            for top in range(0, 17, 2)
            for left in range(0, 17, 2)
        ]
        assert np.array_equal(batch.image[index].permute(0, 2, 3, 1).numpy(), np.stack(expected))


def test_grid__takes_the_patch_of_the_training():
    """If the views have a patch size, the grid uses it."""
    (multi,) = grid(SimpleNamespace(size=24, patch=8.0))
    assert len(multi.pipelines) == 81
    assert {(crop.patch, crop.size) for (crop,) in multi.pipelines} == {(8.0, (24, 24))}


def test_without_color__leaves_crop_and_flip():
    """Without color, only crop and flip of the EMP-SSL augmentation remain, in every view."""
    (multi,) = without_color(views.emp_ssl(16, n=3, patch=8))
    assert isinstance(multi, MultiView)
    assert [[type(step) for step in view] for view in multi.pipelines] == [
        [RandomPatchCrop, RandomHorizontalFlip]
    ] * 3


def test_encode__mixed_is_the_mean_of_one_whole_and_the_random_views(c):
    """The mixed feature is the mean over the features of one whole image and three random views."""
    method = Method(torch.nn.Flatten(), torch.nn.Identity(), Normalize([127.5] * 3, [127.5] * 3))
    with (
        open_views(c, c.eval, "whole", 1, CPU, "float32") as whole,
        open_views(c, c.eval, "training", 3, CPU, "float32") as random,
    ):
        one, three = next(iter(whole.loaders[0])).image, next(iter(random.loaders[0])).image
    stacked = torch.cat([one[:, None], three], dim=1)
    expected = method.features(stacked.flatten(0, 1)).unflatten(0, stacked.shape[:2]).mean(dim=1)
    found = encode(method, c, c.eval, "mixed", 4, CPU, "float32")
    assert torch.allclose(found.train, expected, atol=1e-5)
    assert found.train_labels.tolist() == [0, 1, 2] * 4


def test_bag_encoder__is_the_methods_own_where_it_has_one():
    """A bag averages `patch_features` if the method has it, else the features of the backbone."""
    method = Method(torch.nn.Flatten(), torch.nn.Identity(), Normalize([0] * 3, [1] * 3))
    assert bag_encoder(method) == method.features
    method.patch_features = raw_pixels
    assert bag_encoder(method) is raw_pixels


def test_balanced_subset__takes_the_share_of_each_class():
    """A subset is a seeded tenth of each class, at least one sample, sorted."""
    labels = np.repeat([0, 1, 2], [200, 50, 3])[np.random.default_rng(0).permutation(253)]
    chosen = balanced_subset(labels, 0.1, seed=1)
    assert np.bincount(labels[chosen]).tolist() == [20, 5, 1]
    assert (np.diff(chosen) > 0).all()
    assert np.array_equal(chosen, balanced_subset(labels, 0.1, seed=1))
    assert not np.array_equal(chosen, balanced_subset(labels, 0.1, seed=2))
    assert np.array_equal(balanced_subset(labels, 1.0, seed=0), np.arange(253))


def test_balanced_subset__equals_a_search_for_each_class_and_takes_many():
    """A subset equals that of a loop over classes, for negative labels and 100,000 classes, too."""
    labels = np.random.default_rng(3).integers(-5, 40, 700)
    generator, expected = np.random.default_rng(9), []
    for label in np.unique(labels):
        of_class = generator.permutation(np.flatnonzero(labels == label))
        expected.append(of_class[: max(1, round(0.3 * len(of_class)))])
    np.testing.assert_array_equal(
        balanced_subset(labels, 0.3, seed=9), np.sort(np.concatenate(expected))
    )
    assert len(balanced_subset(np.arange(100_000).repeat(2) * 10**4, 0.5, seed=0)) == 100_000


def test_few_labels__keeps_features_with_their_labels(c):
    """The remaining rows keep their labels, and the validation features stay complete."""
    with open_views(c, c.eval, "whole", 1, CPU, "float32") as evaluation:
        features = evaluation.features(raw_pixels)
    few = few_labels(features, 0.5, seed=0)
    assert torch.bincount(few.train_labels).tolist() == [2, 2, 2]
    for row, label in zip(few.train, few.train_labels, strict=True):
        (index,) = (features.train == row).all(dim=1).nonzero()[:, 0].tolist()
        assert features.train_labels[index] == label
    assert few.val is features.val


def test_protocols__with_the_same_views_are_adjacent():
    """All protocols together encode each kind of views once."""
    kinds = [(protocol.views, protocol.num_views) for protocol in PROTOCOLS.values()]
    assert sum(a != b for a, b in pairwise(kinds)) == len(set(kinds)) - 1


def test_probe_config__reads_lists_of_protocols():
    """Lists of protocols are parsed, deduplicated and put in order; unknown names raise."""
    assert ProbeConfig(protocol="emp_paper, knn_a,emp_paper").names == ["knn_a", "emp_paper"]
    assert ProbeConfig(protocol="all").names == list(PROTOCOLS)
    with pytest.raises(ConfigError, match=r"no protocol 'knn'. Protocols: all, whole_image"):
        ProbeConfig(protocol="knn,emp_paper")
    for wrong in (
        {"labels": 0},
        {"labels": 1.5},
        {"views": 1},
        {"epochs": -1},
        {"batch_size": 0},
        {"seed": -1},
    ):
        with pytest.raises(ConfigError):
            ProbeConfig(**wrong)


def test_spread_scores__are_those_of_the_embeddings_of_two_views(c):
    """The scores equal those computed from two views, for embeddings that are channel means."""
    method = Method(torch.nn.Identity(), torch.nn.Identity(), Normalize([0] * 3, [255] * 3))
    method.features = lambda images: method.normalize(images).mean(dim=(2, 3))
    with open_views(c, c.eval, "training", 2, CPU, "float32") as evaluation:
        z = method.embed(next(iter(evaluation.loaders[0])).image)
    unit = torch.nn.functional.normalize(z, dim=2)
    uneven = [
        torch.stack([(-2 * (a - b).square().sum()).exp() for i, a in enumerate(v) for b in v[:i]])
        .mean()
        .log()
        for v in unit.unbind(1)
    ]
    found = spread_scores(method, c, CPU)
    assert found["alignment"] == pytest.approx(alignment(z), rel=1e-5)
    assert found["rankme_z"] == pytest.approx(rankme(z[:, 0]), rel=1e-5)
    assert found["uniformity"] == pytest.approx(float(sum(uneven)) / 2, rel=1e-4)
    assert found["alignment"] > 0
