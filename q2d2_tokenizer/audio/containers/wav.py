"""WAV: sizes are written where they are missing, and what has too few bytes or too many is refused."""

import struct
from collections.abc import Iterator

from .pieces import Content, Pieces, damaged, is_end

_UNKNOWN_SIZES = range(0x7FFFF000, 0x80000001), range(0xFFFFF000, 0x100000000)  # when a length is not known
_LONG = 2**32 - 2**20  # bytes of samples from which a file needs the sizes of RF64


def wav_parts(data: Content, start: int) -> Iterator[Pieces]:
    """Each WAV from a place on, with true sizes."""
    while start < len(data):
        order = ">" if data[start : start + 4] == b"RIFX" else "<"
        position, sizes = start + 12, None
        while True:
            if position + 8 > len(data):
                raise damaged("its samples are missing, it ends within its header")
            name, size = struct.unpack_from(f"{order}4sI", data, position)
            if name == b"data":
                break
            sizes = position - start if name == b"ds64" else sizes
            position += 8 + size + size % 2
        if sizes is not None and size == 0xFFFFFFFF:
            size = struct.unpack_from("<Q", data, start + sizes + 16)[0]
        first = position + 8
        size, start_of_next = _wav_size(data, first, size, order)
        head = bytearray(data[start:first])
        _write_wav_size(head, order, size, sizes)
        yield Pieces(head, memoryview(data)[first : first + size])
        start = start_of_next


def _wav_size(data: Content, first: int, size: int, order: str) -> tuple[int, int]:
    """Bytes of samples that begin at `first`, and the place of the next WAV that was joined, or the end."""
    present = len(data) - first
    unknown = any(size in sizes for sizes in _UNKNOWN_SIZES) or size == 2**64 - 1
    if size > present and not unknown:
        raise damaged(f"its header promises {size} bytes of samples, it holds {present}")
    for end in (first + size, first + size + 1):  # some writers leave out the byte that makes it even
        behind = _skip_chunks(data, end, order)
        if size <= present and (_is_wav(data, behind) or is_end(data, behind) or behind + 8 > len(data)):
            return size, behind if _is_wav(data, behind) else len(data)
    if size and size <= present and not unknown:
        raise damaged(
            f"its header promises {size} bytes of samples, but {present - size} more follow that are nothing else; "
            "`ffmpeg -ignore_length 1 -i in.wav out.wav` takes all"
        )
    end = first
    while (end := data.find(b"RIFF", end)) >= 0 and not _is_wav(data, end):
        end += 1
    end = len(data) if end < 0 else end
    return end - first, end


def _is_wav(data: Content, position: int) -> bool:
    return data[position : position + 4] == b"RIFF" and data[position + 8 : position + 12] == b"WAVE"


def _skip_chunks(data: Content, position: int, order: str) -> int:
    """Place behind the whole chunks at a place."""
    while position + 8 <= len(data) and not _is_wav(data, position):
        name, size = struct.unpack_from(f"{order}4sI", data, position)
        if not all(32 <= byte < 127 for byte in name) or position + 8 + size > len(data):
            break
        position += 8 + size + size % 2
    return position


def _write_wav_size(head: bytearray, order: str, size: int, sizes: int | None) -> None:
    """Write bytes of samples into all that is before them; `sizes` is the place of the chunk ds64, if there is one."""
    is_long = size >= _LONG
    if is_long:
        if sizes is None:
            sizes = 12
            head[12:12] = b"ds64" + struct.pack("<I", 28) + bytes(28)
        struct.pack_into("<QQ", head, sizes + 8, len(head) + size - 8, size)
    head[:4] = b"RF64" if is_long else head[:4] if order == ">" else b"RIFF"
    struct.pack_into(f"{order}I", head, 4, 0xFFFFFFFF if is_long else len(head) + size - 8)
    struct.pack_into(f"{order}I", head, len(head) - 4, 0xFFFFFFFF if is_long else size)
