"""Speech from text, and the continuation of speech: a language model gives tokens, the codec turns them into audio."""

import contextlib
import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

import lm
from lm.generate import Generation, make_prompt
from lm.model import LanguageModel
from lm.settings import CONTINUATION, SpeechOptions
from lm.text import split_text
from lm.timing import WordTime, require_alignment, word_times

from .audio.files import refuse_folder
from .audio.recordings import decode_in_chunks, encode_chunks, encode_file
from .audio.token_file import TOKEN_SUFFIX, check_in_codebook, load_tokens
from .bundled import BUNDLED, load_codec
from .modeling_q2d2 import Q2D2Model

_CHUNK_CODES = 24
PART_CHARACTERS = 150

Recording = str | Path | np.ndarray


def decode_chunks(codec: Q2D2Model, codes: Iterable[int]) -> Iterator[np.ndarray]:
    """Audio (n,) of codes in short chunks, each as soon as it is determined; see `decode_in_chunks`."""
    return decode_in_chunks(codec, codes, tokens_per_chunk=_CHUNK_CODES, is_live=True)


class Utterance:
    """Speech that is generated while it is iterated over: chunks (n,) float32.

    Afterwards `codes` holds its codes, and `str` says how long it is, how fast it came, and why it ended.

    Args:
        codec: The codec.
        generation: Codes of one prompt as they come.
        before: Codes of the speech that is continued; their audio comes first.
        text: What is said, if it is known.
    """

    def __init__(self, codec: Q2D2Model, generation: Generation, before: Iterable[int] = (), text: str = ""):
        self.text = text
        self._codec, self._generation, self._before = codec, generation, before
        self.codes: list[int] = []  # without those before
        self.seconds = self.taken = self.first = 0.0  # of generated speech, to generate it, to the first audio

    def __iter__(self) -> Iterator[np.ndarray]:
        start, self.first, self.codes = time.perf_counter(), 0.0, []
        for audio in decode_chunks(self._codec, itertools.chain(map(int, self._before), self._codes())):
            self.first = self.first or time.perf_counter() - start
            yield audio
        self.seconds, self.taken = len(self.codes) / self._codec.config.frame_rate, time.perf_counter() - start

    def _codes(self) -> Iterator[int]:
        for (code,) in self._generation:
            self.codes.append(int(code))
            yield int(code)

    def __str__(self) -> str:
        speed = self.seconds / self.taken
        reason = self._generation.reasons[0]
        return f"{self.seconds:.1f} s, {speed:.2f} x real time, first audio after {self.first:.2f} s, {reason}"


class TextToSpeech:
    """Speaks with a codec and a language model.

        speaker = TextToSpeech.from_pretrained()
        audio = speaker.speak("Hello there.")  # (N,) float32 at speaker.sampling_rate Hz

    Keyword arguments of the methods are the fields of `SpeechOptions`: temperature, seed, max_seconds and others.
    A recording is an audio file, a token file (.q2d2), audio (N,) of floats at the rate of the codec within plus or
    minus 1, or tokens (T,) of integers.

    Args:
        codec: The codec.
        language_model: A language model of its tokens.

    Raises:
        ValueError: If the language model is of another codec.
    """

    def __init__(self, codec: Q2D2Model, language_model: LanguageModel):
        language_model.layout.check_codec(codec.fingerprint())
        self.codec, self.language_model = codec, language_model

    @classmethod
    def from_pretrained(cls, codec: str = BUNDLED, language_model: str = BUNDLED) -> "TextToSpeech":
        """Load both models.

        Args:
            codec: Folder of a codec, its name on the Hub, or `bundled`.
            language_model: Folder of a language model, or `bundled`.

        Raises:
            ValueError: If the codec cannot be loaded, or the language model is of another codec.
            OSError: If the language model cannot be loaded.
        """
        model = load_codec(codec)
        folder = lm.default_checkpoint() if language_model == BUNDLED else language_model
        return cls(model, LanguageModel.load(folder, model.fingerprint()))

    @property
    def sampling_rate(self) -> int:
        """Rate of the audio in Hz."""
        return self.codec.config.sampling_rate

    def speak(self, text: str, voice: Recording | None = None, voice_text: str = "", **options: Any) -> np.ndarray:
        """Read a text aloud.

        A long text is spoken in parts of a few sentences, each with the same seed and voice.

        Args:
            text: English text.
            voice: Recording of the voice to speak with.
            voice_text: What is said in it.
            **options: Fields of `SpeechOptions`.

        Returns:
            Audio (N,) float32.

        Raises:
            ValueError: If there is nothing to read in the text, only one of `voice` and `voice_text` is given, or the
                context of the language model is too short for them.
            RuntimeError: If the weights of the language model are damaged.
        """
        return _joined(self.stream(text, voice, voice_text, **options))

    def stream(
        self, text: str, voice: Recording | None = None, voice_text: str = "", **options: Any
    ) -> Iterator[np.ndarray]:
        """Chunks (n,) float32 of what `speak` returns, while it is generated; see there."""
        return itertools.chain.from_iterable(self.utterances(text, voice, voice_text, SpeechOptions(**options)))

    def speak_with_times(
        self, text: str, voice: Recording | None = None, voice_text: str = "", **options: Any
    ) -> tuple[np.ndarray, list[WordTime]]:
        """What `speak` returns, and when each word of it is spoken; see there and `word_times`."""
        require_alignment(self.language_model)
        parts = self.utterances(text, voice, voice_text, SpeechOptions(**options))
        audio = _joined(itertools.chain.from_iterable(parts))
        return audio, self.times_of(parts)

    def times_of(self, utterances: list[Utterance]) -> list[WordTime]:
        """When each word is spoken in utterances that follow one another and have been iterated over."""
        rate, offset, found = self.codec.config.frame_rate, 0.0, []
        for one in utterances:
            found += word_times(self.language_model, one.text, np.array(one.codes), rate, offset)
            offset += one.seconds
        return found

    def word_times(self, recording: Recording, text: str) -> list[WordTime]:
        """When each word of a recording is spoken.

        Args:
            recording: Some speech.
            text: What is said in it.

        Returns:
            Words as they are read aloud, with start and end in seconds.

        Raises:
            ValueError: If the recording cannot be used or is of another codec, there is nothing to read in the text,
                or the language model has no alignment.
        """
        return word_times(self.language_model, text, self.read_codes(recording), self.codec.config.frame_rate)

    def continue_speech(self, recording: Recording, **options: Any) -> np.ndarray:
        """Go on speaking from a recording.

        Args:
            recording: What to continue.
            **options: Fields of `SpeechOptions`; those of `CONTINUATION` if left out.

        Returns:
            Audio (N,) float32: the recording as the codec gives it back, then its continuation.

        Raises:
            ValueError: If the recording cannot be used, is of another codec, or does not fit into the context.
            RuntimeError: If the weights of the language model are damaged.
        """
        return _joined(self.continuation(self.read_codes(recording), replace(CONTINUATION, **options)))

    def utterances(
        self,
        text: str,
        voice: Recording | None = None,
        voice_text: str = "",
        options: SpeechOptions = SpeechOptions(),  # noqa: B008 - frozen
        part_characters: int = PART_CHARACTERS,
    ) -> list[Utterance]:
        """The parts of a text, in order, to be generated one after the other; all are checked before.

        Args:
            text: See `speak`.
            voice: See `speak`.
            voice_text: See `speak`.
            options: How to speak.
            part_characters: Longest part, in characters.
        """
        known = self.language_model.text.known if self.language_model.text else ()
        parts = split_text(text, part_characters, known) or [text]  # what cannot be read is refused below
        codes = None if voice is None else self.read_codes(voice)
        prompts = [make_prompt(self.language_model, part, codes, voice_text) for part in parts]
        settings = options.settings(self.codec.config.frame_rate)
        return [
            Utterance(self.codec, Generation(self.language_model, [prompt], settings, [voice_text]), text=part)
            for part, prompt in zip(parts, prompts, strict=True)
        ]

    def continuation(self, codes: np.ndarray, options: SpeechOptions = CONTINUATION) -> Utterance:
        """Codes (T,) of a recording as audio, then what follows, to be generated."""
        prompt = make_prompt(self.language_model, codes=codes)
        settings = options.settings(self.codec.config.frame_rate)
        return Utterance(self.codec, Generation(self.language_model, [prompt], settings), before=codes)

    def read_codes(self, recording: Recording) -> np.ndarray:
        """Codes (T,) of a recording.

        Raises:
            ValueError: If it cannot be used, or its tokens are of another codec.
        """
        size = self.codec.quantizer.codebook_size
        if isinstance(recording, np.ndarray):
            if recording.ndim != 1:
                raise ValueError(f"a recording must be audio (N,) or tokens (T,), got the shape {recording.shape}")
            if np.issubdtype(recording.dtype, np.integer):
                check_in_codebook(recording, size, "a recording of integers holds tokens", "pass audio as floats")
                return recording
            if not np.issubdtype(recording.dtype, np.floating):
                raise ValueError(f"audio must be floats and tokens integers, got {recording.dtype}")
            return encode_chunks(self.codec, [recording.astype(np.float32)])[0]
        if not isinstance(recording, (str, Path)):
            raise ValueError(
                "a recording must be the path of a file, or audio (N,) or tokens (T,) as a numpy array, got "
                f"{type(recording).__name__}"
            )
        if Path(recording).suffix == TOKEN_SUFFIX:
            tokens = load_tokens(recording)
            self.language_model.layout.check_codec(tokens.codec_fingerprint)
            check_in_codebook(tokens.audio_codes, size, str(recording))
            return tokens.audio_codes
        return encode_file(self.codec, recording)[0]


@cache
def _speaker() -> TextToSpeech:
    return TextToSpeech.from_pretrained()


def speak(text: str, **options: Any) -> np.ndarray:
    """Read a text aloud with the models that come with the package, which stay loaded; see `TextToSpeech.speak`.

    Returns:
        Audio (N,) float32 at 24 kHz.
    """
    return _speaker().speak(text, **options)


def stream_speech(text: str, **options: Any) -> Iterator[np.ndarray]:
    """Chunks (n,) float32 at 24 kHz of what `speak` returns, while it is generated; see `TextToSpeech.speak`."""
    return _speaker().stream(text, **options)


def _joined(chunks: Iterable[np.ndarray]) -> np.ndarray:
    """Audio (N,) of chunks (n,)."""
    return np.concatenate([np.empty(0, np.float32), *chunks])


def write_audio(path: Path, sampling_rate: int, chunks: Iterable[np.ndarray]) -> None:
    """Write an audio file while its chunks (n,) come; what is there already is only replaced once there is audio.

    Args:
        path: The file to write; its suffix says the format.
        sampling_rate: Rate in Hz.
        chunks: The audio.

    Raises:
        ValueError: If there is no such folder or format, or the weights of the language model that gives the chunks
            are damaged.
        OSError: If the file is a folder.
    """
    refuse_folder(path)
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} for the output; create it or choose another")
    if path.suffix[1:].upper() not in soundfile.available_formats():
        raise ValueError(f"the output must end in .wav, .flac or another format of soundfile, got {path.name!r}")
    with contextlib.ExitStack() as stack:
        file = None
        try:
            for audio in chunks:
                file = file or stack.enter_context(soundfile.SoundFile(path, "w", sampling_rate, 1))
                file.write(audio)
        except RuntimeError as error:
            raise ValueError(str(error)) from error
