"""One to three faults in any parts of a valid JPEG (ITU-T T.81, annex B)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.stress import hostile

SOF, DHT, SOS, DQT, DRI, EOI = (0xC0, 0xC1, 0xC2), 0xC4, 0xDA, 0xDB, 0xDD, 0xD9
MARKERS = (
    0x00,
    0x01,
    0xC0,
    0xC1,
    0xC2,
    0xC3,
    0xC4,
    0xC8,
    0xC9,
    0xCA,
    0xCC,
    *range(0xD0, 0xE1),
    0xE2,
    0xEE,
    0xFE,
    0xFF,
)
HUGE_SIDES = (0, 1, 2, 7, 8, 9, 255, 4096, 16384, 65500, 65501, 65535)


@dataclass
class Segment:
    """A marker, its body (None: a marker without length), and the data after a start of scan."""

    marker: int
    body: bytearray | None
    data: bytearray
    length: int | None = None  # value to write instead of the length of the body

    def to_bytes(self) -> bytes:
        """Return the bytes of the segment."""
        if self.body is None:
            return bytes((0xFF, self.marker)) + self.data
        length = (len(self.body) + 2 if self.length is None else self.length) & 0xFFFF
        return bytes((0xFF, self.marker)) + length.to_bytes(2, "big") + self.body + self.data


def split(jpeg: bytes) -> list[Segment]:
    """Split a valid JPEG into segments; restart markers stay in the data of their scan."""
    segments = [Segment(0xD8, None, bytearray())]
    offset = 2
    while jpeg[offset + 1] != EOI:
        marker, length = jpeg[offset + 1], int.from_bytes(jpeg[offset + 2 : offset + 4], "big")
        end = data = offset + 2 + length
        while marker == SOS and not (
            jpeg[end] == 0xFF and jpeg[end + 1] != 0 and not 0xD0 <= jpeg[end + 1] <= 0xD7
        ):
            end += 1
        segments.append(
            Segment(marker, bytearray(jpeg[offset + 4 : data]), bytearray(jpeg[data:end]))
        )
        offset = end
    return [*segments, Segment(EOI, None, bytearray())]


def join(segments: list[Segment]) -> bytes:
    """Return the JPEG made of these segments."""
    return b"".join(segment.to_bytes() for segment in segments)


def mutated_jpeg(jpeg: bytes, rng: random.Random) -> tuple[bytes, str, tuple[int, int] | None]:
    """Return a malformed JPEG, a description, and (height, width) for its record or None."""
    segments, done = split(jpeg), []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        function = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        done.append(f"{function.__name__} {function(segments, rng)}")
    data = join(segments)
    if rng.random() < 0.05:
        data = data[: rng.randrange(len(data) + 1)]
        done.append(f"cut to {len(data)}")
    frame = next(
        (
            segment.body
            for segment in segments
            if segment.marker in SOF and segment.body is not None
        ),
        None,
    )
    size = None
    if frame is not None and len(frame) >= 5 and rng.random() < 0.7:
        size = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    return data, "; ".join(done), size


def entropy(segments: list[Segment], rng: random.Random) -> str:
    """Change entropy-coded data: bits, bytes, runs, stray markers."""
    data = _of(segments, rng, SOS).data
    if not data:
        return "nothing"
    at, length, action = rng.randrange(len(data)), rng.randrange(1, 16), rng.randrange(7)
    if action == 0:
        data[at] ^= 1 << rng.randrange(8)
    elif action == 1:
        data[at : at + length] = rng.randbytes(length)
    elif action == 2:
        del data[at : at + length]
    elif action == 3:
        data[at:at] = data[rng.randrange(len(data)) :][:length]
    elif action == 4:
        data[at : at + 2] = bytes((0xFF, rng.choice(MARKERS)))
    elif action == 5:
        data[at:at] = bytes((0xFF, rng.choice(MARKERS)))
    else:
        data += rng.choice(
            (
                b"\0" * length,
                rng.randbytes(length).replace(b"\xff", b"\xfe"),
                b"\xff" * length,
                b"\xff\xd0",
            )
        )
    return f"action {action} at {at}, {length} bytes"


def restarts(segments: list[Segment], rng: random.Random) -> str:
    """Change the restart interval, or number, order or count of the restart markers."""
    data, action = _of(segments, rng, SOS).data, rng.randrange(5)
    offsets = [i for i in range(len(data) - 1) if data[i] == 0xFF and 0xD0 <= data[i + 1] <= 0xD7]
    if action < 2 or not offsets:
        interval = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 100, 65535))
        existing = next((segment for segment in segments if segment.marker == DRI), None)
        if existing is not None and existing.body is not None:
            existing.body[:] = interval.to_bytes(2, "big")
        else:
            segments.insert(1, Segment(DRI, bytearray(interval.to_bytes(2, "big")), bytearray()))
        return f"interval {interval}"
    at = rng.choice(offsets)
    if action == 2:
        data[at + 1] = 0xD0 + rng.randrange(8)
    elif action == 3:
        del data[at : at + 2]
    else:
        data[at:at] = data[at : at + 2]
    return f"action {action} at {at}"


def dimensions(segments: list[Segment], rng: random.Random) -> str:
    """Change height or width, slightly or to extreme values."""
    frame = _of(segments, rng, *SOF).body
    if frame is None or len(frame) < 6:
        return "nothing"
    both = rng.random() < 0.3
    for at in (1, 3) if both else (rng.choice((1, 3)),):
        old = int.from_bytes(frame[at : at + 2], "big")
        new = rng.choice(
            (65535, rng.choice(HUGE_SIDES), old + rng.choice((-17, -9, -8, -1, 1, 7, 8, 9, 16)))
        )
        frame[at : at + 2] = (new & 0xFFFF).to_bytes(2, "big")
    return frame[1:5].hex()


def frame(segments: list[Segment], rng: random.Random) -> str:
    """Change precision, components, sampling factors or coding process."""
    segment = _of(segments, rng, *SOF)
    body = segment.body
    if body is None or not body:
        return "nothing"
    action = rng.randrange(4)
    if action == 0:
        segment.marker = rng.choice((0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC9, 0xCA))
    elif action == 1 and len(body) > 5:
        body[5] = rng.choice((0, 1, 2, 3, 4, 10, 255))
    elif action == 2 and len(body) > 7:
        body[rng.randrange(6, len(body))] = rng.choice(
            (0x11, 0x12, 0x21, 0x22, 0x41, 0x14, 0x44, 0x00, 0x31, 0x13, 0xFF, 1, 2, 3)
        )
    else:
        body[rng.randrange(len(body))] = rng.randrange(256)
    return f"action {action}: {segment.marker:x} {body.hex()}"


def tables(segments: list[Segment], rng: random.Random) -> str:
    """Change quantization or Huffman tables."""
    segment = _of(segments, rng, DHT, DQT)
    body = segment.body
    if not body:
        return "nothing"
    at = rng.choice((0, rng.randrange(len(body)), rng.randrange(min(17, len(body)))))
    body[at] = rng.choice((0, 1, 16, 255, rng.randrange(256), body[at] ^ 1 << rng.randrange(8)))
    if rng.random() < 0.1:
        del body[rng.randrange(len(body)) :]
    return f"{segment.marker:x} byte {at}"


def scan(segments: list[Segment], rng: random.Random) -> str:
    """Change the header of a scan: components, tables, coefficients."""
    body = _of(segments, rng, SOS).body
    if not body:
        return "nothing"
    at = rng.randrange(len(body))
    body[at] = rng.choice((0, 1, 2, 3, 4, 0x11, 0x10, 0x01, 0x22, 63, 64, 255, rng.randrange(256)))
    return f"byte {at} = {body[at]}"


def order(segments: list[Segment], rng: random.Random) -> str:
    """Repeat, drop, swap or truncate segments, or change their markers or lengths."""
    if len(segments) < 3:
        return "nothing"
    index, other, action = (
        rng.randrange(1, len(segments)),
        rng.randrange(1, len(segments)),
        rng.randrange(7),
    )
    segment = segments[index]
    if action == 0:
        segments.insert(other, segment)
    elif action == 1:
        del segments[index]
    elif action == 2:
        segments[index], segments[other] = segments[other], segment
    elif action == 3:
        segment.marker = rng.choice(MARKERS)
    elif action == 4 and segment.body is not None:
        segment.length = hostile.number(rng, 16, len(segment.body) + 2)
    elif action == 5:
        segment.data += rng.randbytes(rng.randrange(1, 9))
    else:  # many scans, each a pass over the whole image
        repeated = _of(segments, rng, SOS)
        segments[-1:-1] = [repeated] * rng.choice((2, 30, 600))
    return f"action {action}, segments {index}, {other}"


def foreign(segments: list[Segment], rng: random.Random) -> str:
    """Insert a segment that affects colors or orientation, with arbitrary content."""
    bodies = (
        (0xE0, b"JFIF\0" + rng.randbytes(9)),
        (0xEE, b"Adobe" + rng.randbytes(6) + bytes((rng.randrange(4),))),
        (0xE1, b"Exif\0\0" + rng.choice((b"II*\0", b"MM\0*")) + rng.randbytes(rng.randrange(60))),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b'tiff:Orientation="6"'),
        (0xE2, b"MPF\0" + rng.randbytes(20)),
        (0xFE, rng.randbytes(rng.randrange(100))),
    )
    marker, body = rng.choice(bodies)
    segments.insert(
        rng.randrange(1, len(segments) + 1), Segment(marker, bytearray(body), bytearray())
    )
    return f"{marker:x} {body[:20]!r}"


WEIGHTS: dict[Callable[[list[Segment], random.Random], str], int] = {
    entropy: 10,
    restarts: 4,
    dimensions: 5,
    frame: 3,
    tables: 4,
    scan: 3,
    order: 4,
    foreign: 1,
}


def _of(segments: list[Segment], rng: random.Random, *markers: int) -> Segment:
    """Return a random segment with one of the markers, or a detached one if there is none."""
    found = [segment for segment in segments if segment.marker in markers]
    return rng.choice(found) if found else Segment(0, None, bytearray())
