"""Whether an audio file is whole. Decoders read what is there and do not tell that the rest is missing.

libsndfile decodes a WAV or Ogg file that was cut off up to the cut, of chained Ogg streams the first, and of an MP3
file of variable bitrate without a length header as much as a constant bitrate would fill: each without an error.
"""

import mmap
import struct

_Content = bytes | mmap.mmap

_STREAMED_SIZES = range(0x7FFFF000, 0x80000001), range(0xFFFFF000, 0x100000000)  # written when a length is not known
_OGG_FIRST, _OGG_LAST = 2, 4  # header flags of the first and last page of a stream
_MP3_KBPS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_MP3_END_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN")
_MP3_SLACK_FRAMES = 4  # a decoder drops the encoder's delay and padding


def find_damage(data: _Content, file_format: str, num_decoded: int, num_announced: int) -> str | None:
    """What is missing from an audio file, or None if it is whole.

    An MP3 file without a length header that ends between two frames cannot be told from a shorter one.

    Args:
        data: Content of the file.
        file_format: As named by libsndfile.
        num_decoded: Samples per channel that were decoded.
        num_announced: Samples per channel that libsndfile expected.
    """
    if file_format == "MP3":
        return _mp3_damage(data, num_decoded, num_announced)
    damage = None
    if file_format in ("WAV", "WAVEX", "OGG"):
        damage = _ogg_damage(data) if file_format == "OGG" else _riff_damage(data)
    if damage is None and num_decoded < num_announced < 2**62:  # more means: length not known
        damage = f"its header promises {num_announced} samples, {num_decoded} could be decoded"
    return damage


def _riff_damage(data: _Content) -> str | None:
    position = 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from(">4sI" if data[:4] == b"RIFX" else "<4sI", data, position)
        if name == b"data":
            present = len(data) - position - 8
            streamed = any(size in sizes for sizes in _STREAMED_SIZES)
            return None if size <= present or streamed else f"its header promises {size} bytes, it holds {present}"
        position += 8 + size + size % 2
    return None


def _ogg_damage(data: _Content) -> str | None:
    position, begun = 0, False
    next_page: dict[int, int] = {}
    unfinished: set[int] = set()
    while position < len(data):
        table = data[position + 27 : position + 27 + data[position + 26]] if position + 27 <= len(data) else b""
        end = position + 27 + len(table) + sum(table)
        if data[position : position + 4] != b"OggS" or not table or end > len(data):
            return "its last page is not whole" if unfinished else None  # what follows the end is not audio
        flags, serial, page = data[position + 5], *struct.unpack_from("<II", data, position + 14)
        if flags & _OGG_FIRST and begun:
            return "it holds several recordings one after another; split it into one file each"
        begun = begun or not flags & _OGG_FIRST
        if page != next_page.get(serial, page):
            return f"pages {next_page[serial]} to {page - 1} are missing"
        next_page[serial] = page + 1
        (unfinished.discard if flags & _OGG_LAST else unfinished.add)(serial)
        position = end
    return "its last page is missing" if unfinished else None


def _mp3_damage(data: _Content, num_decoded: int, num_announced: int) -> str | None:
    num_samples, has_length, is_whole = _scan_mp3(data)
    if has_length:
        is_short = num_decoded < num_announced
        return f"its header promises {num_announced} samples, {num_decoded} could be decoded" if is_short else None
    if not is_whole:
        return "its last frame is not whole"
    if num_decoded < num_samples:
        return (
            f"it has no length header, so only {num_decoded} of about {num_samples} samples could be decoded; "
            "write one with `ffmpeg -i in.mp3 -c copy out.mp3`"
        )
    return None


def _scan_mp3(data: _Content) -> tuple[int, bool, bool]:
    """Least number of samples of the frames, whether a header tells the number, and whether the last frame is whole."""
    position = _id3_length(data)
    first, num_frames, samples_per_frame, has_length = None, 0, 0, False
    while position + 4 <= len(data) and not bytes(data[position : position + 11]).startswith(_MP3_END_TAGS):
        header = (data[position + 1] & 0xFE, data[position + 2] & 0x0C)
        size = _mp3_frame_length(data, position) if first in (None, header) else 0
        if not size:
            position = data.find(b"\xff", position + 1)
            if position < 0:
                break
            continue
        if position + size > len(data):
            return 0, has_length, False
        if first is None:
            first = header
            samples_per_frame = 1152 if header[0] & 0x08 else 576
            has_length = any(tag in data[position : position + 64] for tag in (b"Xing", b"Info"))
        num_frames += 1
        position += size
    return max(0, num_frames - has_length - _MP3_SLACK_FRAMES) * samples_per_frame, has_length, True


def _id3_length(data: _Content) -> int:
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    a, b, c, d = data[6:10]
    return 10 + (a << 21 | b << 14 | c << 7 | d)


def _mp3_frame_length(data: _Content, position: int) -> int:
    """Bytes of the layer III frame at `position`, 0 if there is none."""
    sync, second, third = data[position : position + 3]
    version, layer, rate, kbps = second >> 3 & 3, second >> 1 & 3, third >> 2 & 3, third >> 4
    if sync != 0xFF or second < 0xE0 or version == 1 or layer != 1 or rate == 3 or kbps in (0, 15):
        return 0
    is_mpeg1 = version == 3
    bits = (144 if is_mpeg1 else 72) * 1000 * _MP3_KBPS[is_mpeg1][kbps]
    return bits // _MP3_RATES[version][rate] + (third >> 1 & 1)
