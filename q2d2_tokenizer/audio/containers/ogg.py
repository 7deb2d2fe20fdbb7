"""Ogg: pages are counted and checked, joined streams taken apart, and positions of Opus made to begin at 0."""

import itertools
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import UnreadableAudioError
from .flac import flac_file
from .pieces import CONVERT, Content, Pieces, damaged

_OGG_FIRST, _OGG_LAST = 2, 4  # header flags of the first and last page of a stream
_OGG_KINDS = {b"OpusHead": "Opus", b"\x01vorbis": "Vorbis", b"\x7fFLAC": "FLAC", b"Speex   ": "Speex"}
_OPUS_RATE = 48000
_OPUS_MS = (10, 20, 40, 60) * 3 + (10, 20) * 2 + (2.5, 5, 10, 20) * 4  # of a frame, by configuration
# The lowest rates that hold the bandwidth, by configuration.
_OPUS_RATES = sorted((8000, 12000, 16000) * 4) + sorted((24000, 48000) * 2) + sorted((8000, 16000, 24000, 48000) * 4)
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class _Page(NamedTuple):
    start: int
    end: int
    flags: int
    samples: int  # position of its last packet, -1 if none ends on it
    table: bytes  # lengths of its segments


def ogg_parts(data: Content, start: int) -> Iterator[Pieces]:
    """Each stream of audio in the links of a chain from a place on, as libsndfile reads it right."""
    for pages in _ogg_streams(data, start):
        kind = _ogg_kind(data, pages)
        if kind == "FLAC":
            flac = b"".join(_ogg_packets(data, pages))[9:]
            yield flac_file(flac, 0, len(flac))
        elif kind == "Opus":
            yield Pieces(*_opus_pages(data, pages))
        elif kind == "Vorbis":
            positions = [page.samples for page in pages if page.samples >= 0]
            if positions != sorted(positions):
                raise damaged("its positions go back")
            yield Pieces(*(memoryview(data)[page.start : page.end] for page in pages))
        else:
            raise UnreadableAudioError(f"it is {kind or 'another kind'} in Ogg; convert it: {CONVERT}")


def _ogg_streams(data: Content, start: int) -> list[list[_Page]]:
    """Pages of the stream of audio of each link of a chain."""
    links: list[dict[int, list[_Page]]] = []  # streams that are there at the same time, by their serial number
    numbers: dict[int, int] = {}  # of the next page of each
    position, is_body = start, True
    while (found := data.find(b"OggS", position)) >= 0:
        if found > position and not _is_finished(data, links):
            break
        table = bytes(data[found + 27 : found + 27 + data[found + 26]]) if found + 27 <= len(data) else b""
        end = found + 27 + len(table) + sum(table)
        if end > len(data):
            break
        flags, samples, serial, number, checksum = struct.unpack_from("<xxxxxBqIII", data, found)
        if _ogg_crc(data[found : found + 22] + bytes(4) + data[found + 26 : end]) != checksum:
            raise damaged(f"page {number} is damaged")
        if flags & _OGG_FIRST and is_body:
            _check_finished(data, links)
            links.append({})
            numbers.clear()
        if not links or (serial not in links[-1] and not flags & _OGG_FIRST):
            raise damaged("its first page is missing")
        if number != numbers.setdefault(serial, number):
            raise damaged(f"pages {numbers[serial]} to {number - 1} are missing")
        links[-1].setdefault(serial, []).append(_Page(found, end, flags, samples, table))
        numbers[serial], position, is_body = number + 1, end, not flags & _OGG_FIRST
    if found >= 0 or (position < len(data) and not _is_finished(data, links)):
        raise damaged("its last page is not whole")
    _check_finished(data, links)
    return [pages for link in links for pages in _streams_of_audio(data, link)]


def _is_finished(data: Content, links: list[dict[int, list[_Page]]]) -> bool:
    """Whether the streams of audio have their last page."""
    return not links or all(pages[-1].flags & _OGG_LAST for pages in _streams_of_audio(data, links[-1]))


def _check_finished(data: Content, links: list[dict[int, list[_Page]]]) -> None:
    if not _is_finished(data, links):
        raise damaged("its last page is missing; if it is whole, `ffmpeg -i in.ogg -c copy out.ogg` writes its mark")


def _streams_of_audio(data: Content, streams: dict[int, list[_Page]]) -> list[list[_Page]]:
    """The stream of audio beside others, or all where there is none."""
    audio = [pages for pages in streams.values() if _ogg_kind(data, pages)]
    if len(audio) > 1:
        raise UnreadableAudioError(f"it holds {len(audio)} recordings at the same time; take one: {CONVERT}")
    return audio or list(streams.values())


def _ogg_kind(data: Content, pages: list[_Page]) -> str | None:
    body = pages[0].start + 27 + len(pages[0].table)
    return next((kind for mark, kind in _OGG_KINDS.items() if data[body : body + 8].startswith(mark)), None)


def _ogg_crc(content: bytes) -> int:
    """Checksum of a page: that of zlib with all bits the other way round, and nothing inverted."""
    inner = zlib.crc32(content.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{inner:032b}"[::-1], 2)


def _ogg_packets(data: Content, pages: list[_Page]) -> Iterator[bytes]:
    parts: list[bytes] = []
    for page in pages:
        position = page.start + 27 + len(page.table)
        for size in page.table:
            parts.append(bytes(data[position : position + size]))
            position += size
            if size < 255:
                yield b"".join(parts)
                parts = []


def _opus_pages(data: Content, pages: list[_Page]) -> Iterator[bytes | bytearray | memoryview]:
    """Pages that begin at position 0 and say the lowest rate that loses nothing: libsndfile decodes at that rate.

    A higher one would add what the filters of the decoder leave above the band of the packets.
    """
    counts, rate = _opus_samples(data, pages)
    ends = list(itertools.accumulate(counts))
    dated = [number for number, page in enumerate(pages) if counts[number] and page.samples >= 0]
    if not dated:
        raise damaged("it holds no packets")
    last = max(number for number, page in enumerate(pages) if page.samples >= 0)
    start = pages[dated[0]].samples - ends[dated[0]]
    start = max(0, start) if len(dated) == 1 else start  # then it is the end that may be cut
    promised = pages[last].samples - start
    if promised > ends[-1]:
        seconds = f"{promised / _OPUS_RATE:.2f} s, its packets hold {ends[-1] / _OPUS_RATE:.2f} s"
        raise damaged(f"its positions promise {seconds}; `ffmpeg -i in.ogg -af aresample=async=1 out.flac` fills gaps")
    last_packets = ends[-1] - (ends[dated[-2]] if len(dated) > 1 else 0)
    if ends[-1] - promised <= last_packets:  # only of the last packets may a part be cut; else the position is wrong
        ends[last] = promised
    for number, page in enumerate(pages):
        samples = ends[number] if page.samples >= 0 and number >= dated[0] else page.samples
        content = memoryview(data)[page.start : page.end]
        if number and samples == page.samples:
            yield content
            continue
        changed = bytearray(content)
        struct.pack_into("<q", changed, 6, samples)
        if not number:
            struct.pack_into("<I", changed, 27 + len(page.table) + 12, rate)
        changed[22:26] = bytes(4)
        struct.pack_into("<I", changed, 22, _ogg_crc(bytes(changed)))
        yield changed


def _opus_samples(data: Content, pages: list[_Page]) -> tuple[list[int], int]:
    """Samples at 48 kHz of the packets that end on each page, and the lowest rate that holds their bandwidth."""
    counts: list[int] = []
    number, begin, rate = 0, None, min(_OPUS_RATES)
    for page in pages:
        position, count = page.start + 27 + len(page.table), 0
        for size in page.table:
            begin = position if begin is None else begin
            position += size
            if size < 255:
                if number > 1 and position > begin:
                    count += _opus_packet(bytes(data[begin : begin + 2]))
                    rate = max(rate, _OPUS_RATES[data[begin] >> 3])
                number, begin = number + 1, None
        counts.append(count)
    return counts, rate


def _opus_packet(head: bytes) -> int:
    """Samples at 48 kHz of a packet, by its first two bytes."""
    frames = (1, 2, 2, head[1] & 63 if len(head) > 1 else 0)[head[0] & 3]
    return int(frames * _OPUS_MS[head[0] >> 3] * _OPUS_RATE / 1000)
