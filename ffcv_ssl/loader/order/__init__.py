"""Which sample comes when: random and page-wise orders, subsets, weights, ranks."""

from ffcv_ssl.loader.order.epoch_order import OrderOption

__all__ = ["OrderOption"]
