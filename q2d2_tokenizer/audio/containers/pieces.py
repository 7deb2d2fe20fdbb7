"""What all containers share: content in pieces, tags before and behind it, and what is said of damage."""

import io
import itertools
import mmap
import struct
from bisect import bisect_right
from typing import Any

from ..errors import UnreadableAudioError

Content = bytes | mmap.mmap
CONVERT = "ffmpeg -i IN OUT.flac"


class Pieces(io.RawIOBase):
    """Pieces of content one after another, as a file to read from."""

    def __init__(self, *pieces: bytes | bytearray | memoryview):
        super().__init__()
        self._pieces = [memoryview(piece) for piece in pieces]
        self._starts = [0, *itertools.accumulate(map(len, self._pieces))]
        self._position = 0

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def seekable(self) -> bool:
        """Whether it can be read from any place: yes."""
        return True

    def tell(self) -> int:
        """The place that is read next."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._starts[-1]}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as there is content."""
        target, done = memoryview(buffer).cast("B"), 0
        while done < len(target) and self._position < self._starts[-1]:
            number = bisect_right(self._starts, self._position) - 1
            start = self._position - self._starts[number]
            piece = self._pieces[number][start : start + len(target) - done]
            target[done : done + len(piece)] = piece
            done += len(piece)
            self._position += len(piece)
        return done


def damaged(why: str) -> UnreadableAudioError:
    """The error of a file that is damaged or cut off."""
    return UnreadableAudioError(f"it is damaged or cut off: {why}")


def skip_tags(data: Content, position: int) -> int:
    """Place behind the tags of ID3 and APE at a place."""
    while True:
        head = bytes(data[position : position + 32])
        if head.startswith(b"ID3") and len(head) >= 10 and max(head[6:10]) < 128:
            a, b, c, d = head[6:10]
            position += 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if head[5] & 0x10 else 0)
        elif head.startswith(b"APETAGEX") and len(head) == 32:
            position += struct.unpack_from("<I", head, 12)[0] + (32 if head[23] & 0x20 else 0)
        elif head.startswith(b"TAG"):
            position += 128
        elif head.startswith(b"LYRICSBEGIN") and (end := data.find(b"LYRICS200", position)) > 0:
            position = end + 9
        else:
            return position


def is_end(data: Content, position: int) -> bool:
    """Whether nothing but tags and a few zeros follows."""
    position = skip_tags(data, position)
    return len(data) - position <= 2**16 and not any(data[position:])
