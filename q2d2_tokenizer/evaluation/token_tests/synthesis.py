"""Speech of eSpeak NG, a formant synthesiser that tells when each word begins (Debian: libespeak-ng1)."""

import ctypes
import ctypes.util
from dataclasses import dataclass

import numpy as np

_SYNCHRONOUS, _UTF8, _WORD, _END = 2, 1, 1, 0  # of speak_lib.h


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event), use_errno=False
)


@dataclass(frozen=True)
class Spoken:
    """Synthesised speech.

    Args:
        audio: Samples (N,) float32.
        sampling_rate: In Hz.
        starts: Where in the audio a word begins, in seconds, by the place of its first letter in the text.
    """

    audio: np.ndarray
    sampling_rate: int
    starts: dict[int, float]


class Synthesiser:
    """Speaks English.

    Raises:
        OSError: If the library is not installed.
    """

    def __init__(self, voice: str = "en-us"):
        name = ctypes.util.find_library("espeak-ng")
        if name is None:
            raise OSError("this needs the library espeak-ng, which is not installed: apt-get install libespeak-ng1")
        self._library = ctypes.CDLL(name)
        self._rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, None, 0)
        self._callback = _Callback(self._take)  # kept, since the library does not
        self._library.espeak_SetSynthCallback(self._callback)
        if self._rate <= 0 or self._library.espeak_SetVoiceByName(voice.encode()):
            raise OSError(f"espeak-ng has no voice {voice!r}: apt-get install espeak-ng-data")

    def __call__(self, text: str) -> Spoken:
        self._parts: list[np.ndarray] = []
        self._starts: dict[int, float] = {}
        content = text.encode() + b"\0"
        self._library.espeak_Synth(content, len(content), 0, 1, 0, _UTF8, None, None)
        audio = np.concatenate([np.zeros(0, np.int16), *self._parts]).astype(np.float32) / 32768
        return Spoken(audio, self._rate, self._starts)

    def _take(self, samples: "ctypes._Pointer", count: int, events: "ctypes._Pointer") -> int:
        if samples and count:
            self._parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        number = 0
        while events[number].type != _END:
            if events[number].type == _WORD:
                self._starts.setdefault(events[number].text_position - 1, events[number].audio_position / 1000)
            number += 1
        return 0
