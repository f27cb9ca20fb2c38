"""A loader of random views in memory, with the interface that the training loop uses."""

import torch

from ffcv_ssl.loader.batch import make_batch


class MemoryLoader:
    """Loader whose batches are a pure function of (seed, epoch, position).

    With `fail_at`, it raises an error in that step, counted over all epochs. Images of one class
    share a pattern, so that there is something to learn.
    """

    def __init__(self, num_images=32, batch_size=8, num_views=2, side=8, seed=0, fail_at=None):
        self.num_images, self.batch_size, self.num_views = num_images, batch_size, num_views
        self.side, self.seed, self.fail_at = side, seed, fail_at
        self.epoch, self.position = 0, 0
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(num_images) % 4
        self.patterns = torch.randint(0, 206, (4, 3, side, side), generator=generator)

    def __len__(self):
        return self.num_images // self.batch_size

    def __iter__(self):
        for index in range(self.position, len(self)):
            if self.fail_at == self.epoch * len(self) + index:
                raise OSError("photos.beton: sample 17 cannot be read")
            generator = torch.Generator().manual_seed(1000 * self.seed + 100 * self.epoch + index)
            chosen = torch.randperm(self.num_images, generator=generator)[: self.batch_size]
            labels = self.labels[chosen]
            shape = (self.batch_size, self.num_views, 3, self.side, self.side)
            noise = torch.randint(0, 50, shape, generator=generator)
            self.position = index + 1
            images = (self.patterns[labels][:, None] + noise).to(torch.uint8)
            yield make_batch({"image": images, "label": labels})
        self.epoch, self.position = self.epoch + 1, 0

    def set_epoch(self, epoch):
        self.epoch, self.position = epoch, 0

    def state_dict(self):
        # After the last batch of an epoch, the next epoch begins.
        epoch, position = divmod(self.epoch * len(self) + self.position, len(self))
        return {"seed": self.seed, "epoch": epoch, "position": position}

    def load_state_dict(self, state):
        self.epoch, self.position = state["epoch"], state["position"]
