"""Classifiers on frozen features: after training (`offline`) and during training (`online`)."""

from ffcv_ssl.ssl.probes.offline import knn_accuracy, knn_predictions, linear_probe

__all__ = ["knn_accuracy", "knn_predictions", "linear_probe"]
