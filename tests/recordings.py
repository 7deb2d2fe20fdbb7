"""Audio files for tests, made on the spot."""

import io
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import soundfile

# Every format that is read: file suffix, and format and subtype as libsndfile names them.
FORMATS = [
    ("wav", "WAV", "PCM_16"),
    ("wav", "WAV", "FLOAT"),
    ("wav", "WAVEX", "PCM_24"),
    ("flac", "FLAC", "PCM_16"),
    ("ogg", "OGG", "VORBIS"),
    ("opus", "OGG", "OPUS"),
    ("mp3", "MP3", "MPEG_LAYER_III"),
]


def file_bytes(samples: np.ndarray, sampling_rate: int, file_format: str, subtype: str, **kwargs: object) -> bytes:
    """Content of an audio file with these samples (N,) or (N, channels)."""
    content = io.BytesIO()
    soundfile.write(content, samples, sampling_rate, format=file_format, subtype=subtype, **kwargs)
    return content.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    """Write a tar file of contents by name."""
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def ogg_pages(content: bytes) -> list[bytearray]:
    """Pages of an Ogg file; change them, and let `sealed` write their checksums."""
    pages, position = [], 0
    while position < len(content):
        count = content[position + 26]
        end = position + 27 + count + sum(content[position + 27 : position + 27 + count])
        pages.append(bytearray(content[position:end]))
        position = end
    return pages


def sealed(*pages: bytes) -> bytes:
    """An Ogg file of pages, each with its checksum."""
    content = b""
    for page in map(bytearray, pages):
        page[22:26] = bytes(4)
        reversed_bits = bytes(int(f"{byte:08b}"[::-1], 2) for byte in page)
        checksum = zlib.crc32(reversed_bits, 0xFFFFFFFF) ^ 0xFFFFFFFF
        struct.pack_into("<I", page, 22, int(f"{checksum:032b}"[::-1], 2))
        content += page
    return content


def ogg_page(packet: bytes, number: int, flags: int = 0, samples: int = 0, serial: int = 7) -> bytes:
    """A page with one packet, without its checksum; `flags` is 2 for the first and 4 for the last page."""
    table = bytes([255] * (len(packet) // 255) + [len(packet) % 255])
    head = struct.pack("<qIIIB", samples, serial, number, 0, len(table))
    return b"OggS\0" + bytes([flags]) + head + table + packet
