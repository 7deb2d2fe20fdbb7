"""FLAC: the total is written where it is missing, by the number of the last frame."""

import itertools
from collections.abc import Iterator

from .pieces import Content, Pieces, damaged, is_end


def flac_parts(data: Content, start: int) -> Iterator[Pieces]:
    """Each FLAC file from a place on, with true totals."""
    begins = [start]
    while (following := data.find(b"fLaC\0\0\0\x22", begins[-1] + 4)) >= 0:
        begins.append(following)
    for begin, end in itertools.pairwise([*begins, len(data)]):
        yield flac_file(data, begin, end)


def flac_file(data: Content, start: int, end: int) -> Pieces:
    """One FLAC file; its total is written anew if it was not known or too small."""
    first, is_last = start + 4, False
    while not is_last and first + 4 <= end:
        is_last = bool(data[first] & 0x80)
        first += 4 + int.from_bytes(data[first + 1 : first + 4], "big")
    if first > end or start + 42 > end:
        raise damaged("it ends within its header")
    info = bytearray(data[start : start + 42])
    promised = int.from_bytes(info[21:26], "big") & (2**36 - 1)
    total, end = _flac_total(data, first, end) if not is_end(data, first) else (0, end)
    if promised > total:
        raise damaged(f"its header promises {promised} samples, it holds {total}")
    info[21:26] = (int.from_bytes(info[21:26], "big") - promised + total).to_bytes(5, "big")
    return Pieces(info, memoryview(data)[start + 42 : end])


def _flac_total(data: Content, first: int, end: int) -> tuple[int, int]:
    """Samples of all frames, which the last one tells, and where it ends."""
    begin = _flac_frame(data, first)
    if begin is None:
        raise damaged("its first frame is damaged")
    size = begin[1]
    for stop in _ends_before_tags(data, first, end):
        place, tries = stop, 4  # a frame may look as if another one began within it
        while tries and (place := data.rfind(bytes(data[first : first + 2]), first, place)) >= 0:
            frame = _flac_frame(data, place)
            tries -= frame is not None
            if frame and _flac_crc16(data[place:stop]) == 0:
                numbers = frame[0] - begin[0]
                return (numbers if data[first + 1] & 1 else numbers * size) + frame[1], stop
    raise damaged("its last frame is not whole")


def _ends_before_tags(data: Content, first: int, end: int) -> Iterator[int]:
    """Where the frames may end: before zeros, or before what other programs put there.

    Two of the zeros stay, because they may be the checksum of the last frame. It fits with and without them.
    """
    stop = end
    while stop > first and not data[stop - 1]:
        stop -= 1
    yield min(stop + 2, end)
    for mark in (b"ID3", b"APETAGEX", b"TAG"):
        if (place := data.rfind(mark, first, end)) >= 0:
            yield place


def _flac_frame(data: Content, position: int) -> tuple[int, int] | None:
    """Number and samples of the frame at a place; None if there is none."""
    head = bytes(data[position : position + 16])
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xFE != 0xF8 or head[2] < 16:
        return None
    ones = 8 - (head[4] ^ 0xFF).bit_length()  # bytes of the number, coded as in UTF-8
    num_bytes = max(1, ones)
    number = head[4] & (0xFF >> (ones + 1)) if ones else head[4]
    for byte in head[5 : 4 + num_bytes]:
        number = number << 6 | byte & 0x3F
    code, rate, position = head[2] >> 4, head[2] & 15, 4 + num_bytes
    extra = 1 if code == 6 else 2 if code == 7 else 0
    size = int.from_bytes(head[position : position + extra], "big") + 1
    if not extra:
        size = 192 if code == 1 else 576 << (code - 2) if 2 <= code < 6 else 256 << (code - 8)
    position += extra + (1 if rate == 12 else 2 if rate in (13, 14) else 0)
    is_whole = position < len(head) and _flac_crc8(head[:position]) == head[position]
    return (number, size) if is_whole else None


def _crc_table(polynomial: int, bits: int) -> list[int]:
    table = []
    for value in range(256):
        value <<= bits - 8
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> (bits - 1) else 0)
            value &= (1 << bits) - 1
        table.append(value)
    return table


_CRC8, _CRC16 = _crc_table(0x07, 8), _crc_table(0x8005, 16)


def _flac_crc8(content: bytes) -> int:
    crc = 0
    for byte in content:
        crc = _CRC8[crc ^ byte]
    return crc


def _flac_crc16(content: bytes) -> int:
    """Checksum, 0 of a frame with its own behind it."""
    crc = 0
    for byte in content:
        crc = (crc << 8 & 0xFFFF) ^ _CRC16[crc >> 8 ^ byte]
    return crc
