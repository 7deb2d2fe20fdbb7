"""Audio files as pieces that libsndfile reads whole. What a header remarks is checked against what is there.

libsndfile believes headers: it stops at the length they tell, decodes Opus at the rate of the original recording, and
reads only the first of several files that were joined. It decodes what was cut off up to the cut, without an error. So
every container is walked here first: lengths are counted and written where they are missing or too small, joined files
are taken apart, and what is damaged or cut off is refused.
"""

import struct
from typing import NamedTuple

from ..errors import UnreadableAudioError
from .flac import flac_parts
from .mp3 import mp3_parts
from .ogg import ogg_parts
from .pieces import CONVERT, Content, Pieces, damaged, skip_tags
from .wav import wav_parts

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
        return _split(data, skip_tags(data, 0))
    except (struct.error, IndexError, OverflowError) as error:
        raise damaged("its header is damaged") from error


def _split(data: Content, start: int) -> list[Part]:
    first = bytes(data[start : start + 16])
    if first[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and first[8:12] == b"WAVE":
        return [Part("WAV", file) for file in wav_parts(data, start)]
    if first[:4] == b"fLaC":
        return [Part("FLAC", file) for file in flac_parts(data, start)]
    if first[:4] == b"OggS":
        return [Part("Ogg", file) for file in ogg_parts(data, start)]
    kind = next((kind for place, mark, kind in _OTHER_KINDS if first[place:].startswith(mark)), None)
    if kind is None and first[:1] == b"\xff" and first[1:2] and first[1] & 0xF6 == 0xF0:
        kind = "AAC"
    files = [] if kind else list(mp3_parts(data, start))
    if not files:
        what = f"it is {kind}" if kind else "it is none of wav, flac, ogg, opus and mp3"
        raise UnreadableAudioError(f"{what}; convert it: {CONVERT}")
    return [Part("MP3", file) for file in files]
