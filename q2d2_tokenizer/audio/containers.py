"""Audio files as pieces that libsndfile reads whole. What a header remarks is checked against what is there.

libsndfile believes headers: it stops at the length they tell, decodes Opus at the rate of the original recording, and
reads only the first of several files that were joined. It decodes what was cut off up to the cut, without an error. So
every container is walked here first: lengths are counted and written where they are missing or too small, joined files
are taken apart, and what is damaged or cut off is refused.
"""

import io
import itertools
import mmap
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, NamedTuple

from .errors import UnreadableAudioError

Content = bytes | mmap.mmap
CONVERT = "ffmpeg -i IN OUT.flac"

_UNKNOWN_SIZES = range(0x7FFFF000, 0x80000001), range(0xFFFFF000, 0x100000000)  # in WAV, when a length is not known
_LONG = 2**32 - 2**20  # bytes of samples from which WAV needs the sizes of RF64
_OTHER_KINDS = (  # place and first bytes of what is not read
    (4, b"ftyp", "MP4 or M4A"),
    (0, b"\x1aE\xdf\xa3", "WebM or Matroska"),
    (0, b"FORM", "AIFF"),
    (0, b"caff", "CAF"),
    (0, b"riff\x2e\x91\xcf\x11", "Wave64"),
    (0, b".snd", "AU"),
    (0, b"NIST_1A", "NIST SPHERE"),
    (0, b"#!AMR", "AMR"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "WMA"),
    (0, b"wvpk", "WavPack"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"ADIF", "AAC"),
)
_OGG_FIRST, _OGG_LAST = 2, 4  # header flags of the first and last page of a stream
_OGG_KINDS = {b"OpusHead": "Opus", b"\x01vorbis": "Vorbis", b"\x7fFLAC": "FLAC", b"Speex   ": "Speex"}
_OPUS_RATE = 48000
_OPUS_MS = (10, 20, 40, 60) * 3 + (10, 20) * 2 + (2.5, 5, 10, 20) * 4  # of a frame, by configuration
_MP3_KBPS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_MP3_JUNK = 4096  # bytes, more than any frame has
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


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


class Part(NamedTuple):
    """A recording, or one of several that were joined.

    Args:
        kind: `WAV`, `FLAC`, `Ogg` or `MP3`.
        file: What libsndfile reads.
    """

    kind: str
    file: Pieces


def split(data: Content) -> list[Part]:
    """The parts of an audio file in their order; most have one.

    Raises:
        UnreadableAudioError: If it is of another kind, damaged or cut off.
    """
    try:
        return _split(data, _skip_tags(data, 0))
    except (struct.error, IndexError, OverflowError) as error:
        raise _damaged("its header is damaged") from error


def _split(data: Content, start: int) -> list[Part]:
    first = bytes(data[start : start + 16])
    if first[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and first[8:12] == b"WAVE":
        return [Part("WAV", file) for file in _wav_parts(data, start)]
    if first[:4] == b"fLaC":
        return [Part("FLAC", file) for file in _flac_parts(data, start)]
    if first[:4] == b"OggS":
        return [Part("Ogg", file) for file in _ogg_parts(data, start)]
    kind = next((kind for place, mark, kind in _OTHER_KINDS if first[place:].startswith(mark)), None)
    if kind is None and first[:1] == b"\xff" and first[1:2] and first[1] & 0xF6 == 0xF0:
        kind = "AAC"
    files = [] if kind else list(_mp3_parts(data, start))
    if not files:
        what = f"it is {kind}" if kind else "it is none of wav, flac, ogg, opus and mp3"
        raise UnreadableAudioError(f"{what}; convert it: {CONVERT}")
    return [Part("MP3", file) for file in files]


def _damaged(why: str) -> UnreadableAudioError:
    return UnreadableAudioError(f"it is damaged or cut off: {why}")


def _skip_tags(data: Content, position: int) -> int:
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


def _is_end(data: Content, position: int) -> bool:
    """Whether nothing but tags and a few zeros follows."""
    position = _skip_tags(data, position)
    return len(data) - position <= 2**16 and not any(data[position:])


# WAV


def _wav_parts(data: Content, start: int) -> Iterator[Pieces]:
    while start < len(data):
        order = ">" if data[start : start + 4] == b"RIFX" else "<"
        position, sizes = start + 12, None
        while True:
            if position + 8 > len(data):
                raise _damaged("its samples are missing, it ends within its header")
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
        raise _damaged(f"its header promises {size} bytes of samples, it holds {present}")
    for end in (first + size, first + size + 1):  # some writers leave out the byte that makes it even
        behind = _skip_chunks(data, end, order)
        if size <= present and (_is_wav(data, behind) or _is_end(data, behind) or behind + 8 > len(data)):
            return size, behind if _is_wav(data, behind) else len(data)
    if size and size <= present and not unknown:
        raise _damaged(
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


# FLAC


def _flac_parts(data: Content, start: int) -> Iterator[Pieces]:
    begins = [start]
    while (following := data.find(b"fLaC\0\0\0\x22", begins[-1] + 4)) >= 0:
        begins.append(following)
    for begin, end in itertools.pairwise([*begins, len(data)]):
        yield _flac_file(data, begin, end)


def _flac_file(data: Content, start: int, end: int) -> Pieces:
    """One FLAC file; its total is written anew if it was not known or too small."""
    first, is_last = start + 4, False
    while not is_last and first + 4 <= end:
        is_last = bool(data[first] & 0x80)
        first += 4 + int.from_bytes(data[first + 1 : first + 4], "big")
    if first > end or start + 42 > end:
        raise _damaged("it ends within its header")
    info = bytearray(data[start : start + 42])
    promised = int.from_bytes(info[21:26], "big") & (2**36 - 1)
    total, end = _flac_total(data, first, end) if not _is_end(data, first) else (0, end)
    if promised > total:
        raise _damaged(f"its header promises {promised} samples, it holds {total}")
    info[21:26] = (int.from_bytes(info[21:26], "big") - promised + total).to_bytes(5, "big")
    return Pieces(info, memoryview(data)[start + 42 : end])


def _flac_total(data: Content, first: int, end: int) -> tuple[int, int]:
    """Samples of all frames, which the last one tells, and where it ends."""
    begin = _flac_frame(data, first)
    if begin is None:
        raise _damaged("its first frame is damaged")
    size = begin[1]
    for stop in _ends_before_tags(data, first, end):
        place, tries = stop, 4  # a frame may look as if another one began within it
        while tries and (place := data.rfind(bytes(data[first : first + 2]), first, place)) >= 0:
            frame = _flac_frame(data, place)
            tries -= frame is not None
            if frame and _flac_crc16(data[place:stop]) == 0:
                numbers = frame[0] - begin[0]
                return (numbers if data[first + 1] & 1 else numbers * size) + frame[1], stop
    raise _damaged("its last frame is not whole")


def _ends_before_tags(data: Content, first: int, end: int) -> Iterator[int]:
    """Where the frames may end: before zeros, the first of which may be theirs, or what other programs put there."""
    stop = end
    while stop > first and not data[stop - 1]:
        stop -= 1
    yield from range(stop, min(stop + 3, end + 1))
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


# Ogg


class _Page(NamedTuple):
    start: int
    end: int
    flags: int
    samples: int  # position of its last packet, -1 if none ends on it
    table: bytes  # lengths of its segments


def _ogg_parts(data: Content, start: int) -> Iterator[Pieces]:
    for pages in _ogg_streams(data, start):
        kind = _ogg_kind(data, pages)
        if kind == "FLAC":
            flac = b"".join(_ogg_packets(data, pages))[9:]
            yield _flac_file(flac, 0, len(flac))
        elif kind == "Opus":
            yield Pieces(*_opus_pages(data, pages))
        elif kind == "Vorbis":
            positions = [page.samples for page in pages if page.samples >= 0]
            if positions != sorted(positions):
                raise _damaged("its positions go back")
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
            raise _damaged(f"page {number} is damaged")
        if flags & _OGG_FIRST and is_body:
            _check_finished(data, links)
            links.append({})
            numbers.clear()
        if not links or (serial not in links[-1] and not flags & _OGG_FIRST):
            raise _damaged("its first page is missing")
        if number != numbers.setdefault(serial, number):
            raise _damaged(f"pages {numbers[serial]} to {number - 1} are missing")
        links[-1].setdefault(serial, []).append(_Page(found, end, flags, samples, table))
        numbers[serial], position, is_body = number + 1, end, not flags & _OGG_FIRST
    if found >= 0 or (position < len(data) and not _is_finished(data, links)):
        raise _damaged("its last page is not whole")
    _check_finished(data, links)
    return [pages for link in links for pages in _streams_of_audio(data, link)]


def _is_finished(data: Content, links: list[dict[int, list[_Page]]]) -> bool:
    """Whether the streams of audio have their last page."""
    return not links or all(pages[-1].flags & _OGG_LAST for pages in _streams_of_audio(data, links[-1]))


def _check_finished(data: Content, links: list[dict[int, list[_Page]]]) -> None:
    if not _is_finished(data, links):
        raise _damaged("its last page is missing; if it is whole, `ffmpeg -i in.ogg -c copy out.ogg` writes its mark")


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
    """Pages that begin at position 0 and say that the rate is 48 kHz, which decides how libsndfile decodes."""
    counts = _opus_samples(data, pages)
    ends = list(itertools.accumulate(counts))
    dated = [number for number, page in enumerate(pages) if counts[number] and page.samples >= 0]
    if not dated:
        raise _damaged("it holds no packets")
    last = max(number for number, page in enumerate(pages) if page.samples >= 0)
    start = pages[dated[0]].samples - ends[dated[0]]
    start = max(0, start) if len(dated) == 1 else start  # then it is the end that may be cut
    promised = pages[last].samples - start
    if promised > ends[-1]:
        seconds = f"{promised / _OPUS_RATE:.2f} s, its packets hold {ends[-1] / _OPUS_RATE:.2f} s"
        raise _damaged(f"its positions promise {seconds}; `ffmpeg -i in.ogg -af aresample=async=1 out.flac` fills gaps")
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
            struct.pack_into("<I", changed, 27 + len(page.table) + 12, _OPUS_RATE)
        changed[22:26] = bytes(4)
        struct.pack_into("<I", changed, 22, _ogg_crc(bytes(changed)))
        yield changed


def _opus_samples(data: Content, pages: list[_Page]) -> list[int]:
    """Samples at 48 kHz of the packets that end on each page."""
    counts: list[int] = []
    number, begin = 0, None
    for page in pages:
        position, count = page.start + 27 + len(page.table), 0
        for size in page.table:
            begin = position if begin is None else begin
            position += size
            if size < 255:
                count += _opus_packet(bytes(data[begin : begin + 2])) if number > 1 and position > begin else 0
                number, begin = number + 1, None
        counts.append(count)
    return counts


def _opus_packet(head: bytes) -> int:
    """Samples at 48 kHz of a packet, by its first two bytes."""
    frames = (1, 2, 2, head[1] & 63 if len(head) > 1 else 0)[head[0] & 3]
    return int(frames * _OPUS_MS[head[0] >> 3] * _OPUS_RATE / 1000)


# MP3


class _Run(NamedTuple):
    """Frames of one kind that follow each other; the first may be a tag that tells how many there are."""

    start: int
    end: int
    num_frames: int


def _mp3_parts(data: Content, start: int) -> Iterator[Pieces]:
    for run in _mp3_runs(data, start):
        kind, place = _mp3_tag(data, run.start)
        promised, num_frames = 0, run.num_frames - bool(kind)
        if kind == b"VBRI":
            promised = struct.unpack_from(">I", data, place + 14)[0] - 1  # may count itself
        elif kind and data[place + 7] & 1:
            promised = struct.unpack_from(">I", data, place + 8)[0]
        if promised > num_frames:
            raise _damaged(f"its header promises {promised} frames, it holds {num_frames}")
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
        raise _damaged(f"its first {position} bytes are no MP3")
    while position < len(data):
        begin, count, kind = position, 0, _mp3_kind(data, position)
        while size := _mp3_frame_length(data, position):
            if count and (_mp3_kind(data, position) != kind or _mp3_tag(data, position)[0]):
                break
            if position + size > len(data):
                raise _damaged("its last frame is not whole")
            position, count = position + size, count + 1
        yield _Run(begin, position, count)
        behind = _skip_tags(data, position)
        while not size and behind < len(data) and not data[behind]:
            behind += 1
        following = _next_mp3_frame(data, behind)
        if following > behind and (following < len(data) or following - behind > _MP3_JUNK):
            raise _damaged(f"the bytes {position} to {following} are no MP3")
        position = following


def _next_mp3_frame(data: Content, position: int) -> int:
    """Place of the next frame that another one or the end follows; the end if there is none."""
    while (position := data.find(b"\xff", position)) >= 0:
        size = _mp3_frame_length(data, position)
        if size and (position + size == len(data) or _mp3_frame_length(data, position + size)):
            return position
        if size and _skip_tags(data, position + size) > position + size:
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
