"""MP3: frames are counted, their number is written, and what frames lack whose beginning was cut off is silent."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from .pieces import Content, Pieces, damaged, skip_tags

_MP3_KBPS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_MP3_JUNK = 4096  # bytes, more than any frame has


class _Run(NamedTuple):
    """Frames of one kind that follow each other; the first may be a tag that tells how many there are."""

    start: int
    end: int
    num_frames: int


def mp3_parts(data: Content, start: int) -> Iterator[Pieces]:
    """Each run of frames from a place on, begun by a frame that tells how many there are."""
    for run in _mp3_runs(data, start):
        kind, place = _mp3_tag(data, run.start)
        promised, num_frames = 0, run.num_frames - bool(kind)
        if kind == b"VBRI":
            promised = struct.unpack_from(">I", data, place + 14)[0] - 1  # may count itself
        elif kind and data[place + 7] & 1:
            promised = struct.unpack_from(">I", data, place + 8)[0]
        if promised > num_frames:
            raise damaged(f"its header promises {promised} frames, it holds {num_frames}")
        first = run.start + (_mp3_frame_length(data, run.start) if kind else 0)
        head = bytes(data[run.start : first])
        if promised != num_frames or kind not in (b"Xing", b"Info"):
            head = _mp3_length_frame(bytes(data[run.start : run.start + 4]), num_frames)
        silent = _silent_mp3_frames(data, first, run.end)
        yield Pieces(head, silent, memoryview(data)[first + len(silent) : run.end])


def _silent_mp3_frames(data: Content, position: int, end: int) -> bytearray:
    """The first frames of a stream that was cut, which need bytes of frames before them, as silence."""
    frames, reserve = bytearray(), 0
    while position < end:
        size, begin = _mp3_frame_length(data, position), position + 4 + (0 if data[position + 1] & 1 else 2)
        spare = 7 if data[position + 1] & 0x08 else 8  # bits behind the number of bytes needed
        if int.from_bytes(data[begin : begin + 2], "big") >> spare <= reserve:
            break
        side = _mp3_side_length(data, position)
        silent = (reserve << spare).to_bytes(2, "big") + bytes(side - 2)
        frames += data[position:begin] + silent + data[begin + side : position + size]
        reserve += position + size - begin - side
        position += size
    return frames


def _mp3_runs(data: Content, start: int) -> Iterator[_Run]:
    """Runs of frames; a tag, a new length frame or another kind of frame begins the next.

    A little that is none may lie before the first, such as the end of a frame, and behind the last.
    """
    position = _next_mp3_frame(data, start)
    if position < len(data) and position - start > _MP3_JUNK and any(data[start : position - _MP3_JUNK]):
        raise damaged(f"its first {position} bytes are no MP3")
    while position < len(data):
        begin, count, kind = position, 0, _mp3_kind(data, position)
        while size := _mp3_frame_length(data, position):
            if count and (_mp3_kind(data, position) != kind or _mp3_tag(data, position)[0]):
                break
            if position + size > len(data):
                raise damaged("its last frame is not whole")
            position, count = position + size, count + 1
        yield _Run(begin, position, count)
        behind = skip_tags(data, position)
        while not size and behind < len(data) and not data[behind]:
            behind += 1
        following = _next_mp3_frame(data, behind)
        if following > behind and (following < len(data) or following - behind > _MP3_JUNK):
            raise damaged(f"the bytes {position} to {following} are no MP3")
        position = following


def _next_mp3_frame(data: Content, position: int) -> int:
    """Place of the next frame that another one or the end follows; the end if there is none."""
    while (position := data.find(b"\xff", position)) >= 0:
        size = _mp3_frame_length(data, position)
        if size and (position + size == len(data) or _mp3_frame_length(data, position + size)):
            return position
        if size and skip_tags(data, position + size) > position + size:
            return position
        position += 1
    return len(data)


def _mp3_kind(data: Content, position: int) -> tuple[int, int, bool]:
    """Version and layer, rate, and whether a frame is mono."""
    return data[position + 1] & 0xFE, data[position + 2] & 0x0C, data[position + 3] >> 6 == 3


def _mp3_tag(data: Content, position: int) -> tuple[bytes, int]:
    """Name and place of the tag in a frame that tells the length; an empty name if there is none."""
    side = _mp3_side_length(data, position)
    for place in (position + 4 + side, position + 6 + side, position + 36):  # without and with checksum; VBRI
        name = bytes(data[place : place + 4])
        if name in (b"Xing", b"Info") or (name == b"VBRI" and place == position + 36):
            return name, place
    return b"", 0


def _mp3_side_length(data: Content, position: int) -> int:
    """Bytes of side information of a frame."""
    is_mono = data[position + 3] >> 6 == 3
    return (17 if is_mono else 32) if data[position + 1] & 0x08 else (9 if is_mono else 17)


def _mp3_length_frame(header: bytes, num_frames: int) -> bytes:
    """A frame that tells the number of those that follow, with the kind of the header of one."""
    kbps = 5 if header[1] & 0x08 else 8  # 64 of them
    head = bytes([0xFF, header[1] | 1, kbps << 4 | header[2] & 0x0C, header[3]])
    content = head + bytes(_mp3_side_length(head, 0)) + b"Xing" + struct.pack(">II", 1, num_frames)
    return content + bytes(_mp3_frame_length(content, 0) - len(content))


def _mp3_frame_length(data: Content, position: int) -> int:
    """Bytes of the layer III frame at `position`, 0 if there is none."""
    head = data[position : position + 4]
    if len(head) < 4:
        return 0
    sync, second, third, _ = head
    version, layer, rate, kbps = second >> 3 & 3, second >> 1 & 3, third >> 2 & 3, third >> 4
    if sync != 0xFF or second < 0xE0 or version == 1 or layer != 1 or rate == 3 or kbps in (0, 15):
        return 0
    is_mpeg1 = version == 3
    bits = (144 if is_mpeg1 else 72) * 1000 * _MP3_KBPS[is_mpeg1][kbps]
    return bits // _MP3_RATES[version][rate] + (third >> 1 & 1)
