"""Audio files for tests, made on the spot."""

import io

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
