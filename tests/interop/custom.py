"""A custom field as a user of ffcv_ssl would write it; `peer.py` has FFCV's version."""

import numpy as np

from ffcv_ssl import fields
from tests.interop import samples


class TaggedBytesField(fields.Field):
    """A custom field; see `samples.TAGGED_RECORD`."""

    pointer_name = "ptr"
    record_dtype = samples.TAGGED_RECORD

    def encode(self, value, sample_index, seed=0):
        return fields.Encoded(value[1].tobytes(), (value[0],))

    def decode(self, record, payload):
        return int(record["tag"]), np.frombuffer(payload, dtype=np.uint8)
