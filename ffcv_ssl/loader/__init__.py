"""The loader: sample order, worker threads, decoding and rendering."""

from ffcv_ssl.loader.batch import Batch
from ffcv_ssl.loader.dataset import BetonDataset
from ffcv_ssl.loader.loader import Loader
from ffcv_ssl.loader.order.epoch_order import OrderOption

__all__ = ["Batch", "BetonDataset", "Loader", "OrderOption"]
