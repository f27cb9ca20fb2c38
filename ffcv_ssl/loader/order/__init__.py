"""Sample order of an epoch: random and page-wise orders, subsets, weights and ranks."""

from ffcv_ssl.loader.order.epoch_order import OrderOption

__all__ = ["OrderOption"]
