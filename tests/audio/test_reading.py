"""Reading audio: every format, rate and shape; what is damaged is refused, never shortened."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from recordings import FORMATS, file_bytes

from q2d2_tokenizer.audio.containers.mp3 import _mp3_frame_length
from q2d2_tokenizer.audio.errors import LoudAudioError
from q2d2_tokenizer.audio.reading import read_audio, stream_from_column, to_int16, to_mono

RATE = 24000
FORMAT_IDS = [f"{suffix}-{subtype}" for suffix, _, subtype in FORMATS]
every_format = pytest.mark.parametrize(("suffix", "file_format", "subtype"), FORMATS, ids=FORMAT_IDS)


def from_column(*cell, **options) -> np.ndarray:
    """Samples of one cell."""
    return np.concatenate(list(stream_from_column(*cell, **options)))


@every_format
def test_file_and_bytes_give_the_whole_recording(tmp_path, suffix, file_format, subtype, speech_like):
    content = file_bytes(speech_like(30000), RATE, file_format, subtype)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    samples = read_audio(path, RATE)
    assert samples.shape == (30000,) and samples.dtype == np.float32
    assert np.array_equal(samples, read_audio(content, RATE))
    assert np.corrcoef(samples, speech_like(30000))[0, 1] > 0.9


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
def test_other_rates_are_resampled(rate):
    samples = to_mono(np.sin(2 * np.pi * 440 * np.arange(rate) / rate), rate, RATE)
    assert abs(len(samples) - RATE) <= 1
    assert np.argmax(np.abs(np.fft.rfft(samples, RATE))) == 440
    assert np.abs(samples).max() == pytest.approx(1.0, abs=0.05)


def test_channels_are_averaged(tmp_path, speech_like):
    left, right = speech_like(4000, seed=1), speech_like(4000, seed=2)
    stereo = np.stack([left, right], axis=1)
    np.testing.assert_allclose(to_mono(stereo, RATE, RATE), (left + right) / 2, atol=1e-7)
    content = file_bytes(stereo, RATE, "WAV", "FLOAT")
    np.testing.assert_array_equal(read_audio(content, RATE), to_mono(stereo, RATE, RATE))


def test_number_types_agree(speech_like):
    samples = speech_like(4000)
    integers = (samples * 32767).round().astype(np.int16)
    expected = integers / 32768.0
    np.testing.assert_allclose(to_mono(integers, RATE, RATE), expected, atol=1e-7)
    np.testing.assert_allclose(to_mono(integers.astype(np.int32) << 16, RATE, RATE), expected, atol=1e-7)
    np.testing.assert_allclose(to_mono(expected, RATE, RATE), expected, atol=1e-7)  # float64
    np.testing.assert_array_equal(read_audio(file_bytes(integers, RATE, "WAV", "PCM_16"), RATE), expected)


def test_samples_as_int16_are_those_of_a_file(speech_like):
    samples = np.concatenate([speech_like(4000), [1.0, -1.0, 1.5, -1.5]]).astype(np.float32)
    integers = to_int16(samples)
    assert integers.dtype == np.int16 and integers[-4:].tolist() == [32767, -32767, 32767, -32767]
    np.testing.assert_allclose(to_mono(integers, RATE, RATE), samples.clip(-1, 1), atol=2**-14)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(10, np.uint8), "uint8"),
        (np.zeros(10, np.int64), "int64"),
        (np.array([0.0, np.nan]), "NaN or infinite"),
        (np.array([0.0, np.inf]), "NaN or infinite"),
        (np.zeros(0, np.float32), "empty"),
        (np.zeros((2, 3, 4), np.float32), "shape"),
        (np.zeros((2, 24000), np.float32), "transpose"),
        (np.array(["a"]), "floats"),
        (np.array([0.0, 8.01]), "peak of 8.01"),
        (np.array([0.0, -20000.0]), "peak of 2e.04.*divide samples of 16 bits by 32768"),
        (np.array([1e30]), "peak of 1e.30"),
    ],
)
def test_unusable_samples_are_refused(samples, message):
    with pytest.raises(ValueError, match=message):
        to_mono(samples, RATE, RATE)


@pytest.mark.parametrize("rate", [0, -1, None])
def test_unusable_rate_is_refused(rate):
    with pytest.raises(ValueError, match="sampling_rate"):
        to_mono(np.zeros(10, np.float32), rate, RATE)


def test_infinite_samples_in_a_file_are_refused(speech_like):
    samples = speech_like(1000)
    samples[500] = np.inf
    with pytest.raises(ValueError, match="NaN or infinite"):
        read_audio(file_bytes(samples, RATE, "WAV", "FLOAT"), RATE)


@pytest.mark.parametrize("scale", [32768, 2**23, 1e30])
def test_files_of_another_scale_are_refused(scale, speech_like):
    content = file_bytes(speech_like(1000) * scale, RATE, "WAV", "FLOAT")
    with pytest.raises(LoudAudioError, match="floats lie within plus or minus 1"):
        read_audio(content, RATE)


def test_a_peak_of_more_than_two_is_warned_of_once(speech_like, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("q2d2_tokenizer.audio.reading._BLOCK_SAMPLES", 100)
    for peak, warnings in ((1.9, 0), (2.1, 1), (-7.9, 1)):
        samples = np.full((1000, 2), [peak, 0], np.float32)
        caplog.clear()
        to_mono(samples, RATE, RATE)
        assert len(caplog.records) == warnings
        (tmp_path / "loud.wav").write_bytes(file_bytes(samples, RATE, "WAV", "FLOAT"))
        read_audio(tmp_path / "loud.wav", RATE)
        assert len(caplog.records) == 2 * warnings
        assert not warnings or f"loud.wav has a peak of {abs(peak)}" in caplog.text


def test_int32_that_holds_24_bits_is_warned_of(caplog):
    to_mono(np.array([0, 2**23 - 1], np.int32), RATE, RATE)
    assert "24 bits" in caplog.text
    caplog.clear()
    to_mono(np.array([0, 2**23], np.int32), RATE, RATE)
    to_mono(np.zeros(5, np.int32), RATE, RATE)
    assert not caplog.records


@pytest.mark.parametrize("rate", [8000, 24000, 96000])
def test_silence_and_single_samples_are_audio(rate):
    assert to_mono(np.ones(1, np.float32), rate, RATE).size >= 1
    assert read_audio(file_bytes(np.zeros(1, np.float32), rate, "WAV", "PCM_16"), RATE).size >= 1
    assert not to_mono(np.zeros(5000, np.float32), rate, RATE).any()


@every_format
def test_no_cut_goes_unnoticed(suffix, file_format, subtype, speech_like):
    content = file_bytes(speech_like(30000), RATE, file_format, subtype)
    cuts = {*np.linspace(0, len(content) - 1, 40).astype(int), *range(len(content) - 9, len(content))}
    for cut in sorted(cuts):
        try:
            samples = read_audio(content[:cut], RATE)
        except ValueError:
            continue
        assert len(samples) == 30000, f"cut to {cut} of {len(content)} bytes, {len(samples)} samples without an error"
        assert cut > 0.99 * len(content)


@pytest.mark.parametrize("as_bytes", [True, False])
def test_an_mp3_with_something_behind_it_is_read_and_a_shorter_one_is_refused(as_bytes, speech_like, tmp_path):
    content = file_bytes(speech_like(72000), RATE, "MP3", "MPEG_LAYER_III")

    def read(data: bytes) -> np.ndarray:
        (tmp_path / "x.mp3").write_bytes(data)
        return read_audio(data if as_bytes else tmp_path / "x.mp3", RATE)

    whole = read(content)
    assert np.array_equal(read(content + bytes(50)), whole)
    frames = [i for i in range(len(content)) if content[i : i + 2] == content[:2]]  # where frames may begin
    for cut in frames[2:]:
        with pytest.raises(ValueError):
            read(content[:cut])


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_cut_between_or_without_pages_is_refused(subtype, speech_like):
    content = file_bytes(speech_like(72000), RATE, "OGG", subtype)
    starts = [i for i in range(len(content)) if content[i : i + 4] == b"OggS"]
    assert len(starts) > 4
    for start in starts[1:]:
        with pytest.raises(ValueError):
            read_audio(content[:start], RATE)
    with pytest.raises(ValueError, match="missing"):
        read_audio(content[: starts[-2]] + content[starts[-1] :], RATE)
    damaged = content[: starts[-2] + 60] + bytes(20) + content[starts[-2] + 80 :]
    with pytest.raises(ValueError, match="damaged"):
        read_audio(damaged, RATE)
    assert len(read_audio(content + bytes(100), RATE)) == 72000  # bytes behind the end are not audio


def test_mp3_without_length_header_is_read_whole(speech_like):
    def without_header(**kwargs):
        content = file_bytes(speech_like(72000), RATE, "MP3", "MPEG_LAYER_III", **kwargs)
        return content[_mp3_frame_length(content, 0) :]

    constant = without_header(bitrate_mode="CONSTANT", compression_level=0.5)
    for tag in (b"", b"TAG" + bytes(125), b"APETAGEX" + constant[:200]):
        assert len(read_audio(constant + tag, RATE)) >= 72000
    with pytest.raises(ValueError, match="last frame"):
        read_audio(constant[:-5], RATE)
    variable = without_header(bitrate_mode="VARIABLE", compression_level=0.9)  # libsndfile reads a quarter of it
    assert len(read_audio(variable, RATE)) >= 72000


def test_other_files_are_refused(tmp_path, speech_like):
    for content, message in [(b"", "cannot read"), (b"no audio\n" * 99, "cannot read"), (bytes(999), "cannot read")]:
        path = tmp_path / "speech.wav"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message) as error:
            read_audio(path, RATE)
        assert "speech.wav" in str(error.value)
    with pytest.raises(ValueError, match="convert it"):
        read_audio(file_bytes(speech_like(100), RATE, "AIFF", "PCM_16"), RATE)
    with pytest.raises(ValueError, match="empty"):
        read_audio(file_bytes(np.zeros(0, np.float32), RATE, "WAV", "PCM_16"), RATE)
    with pytest.raises(FileNotFoundError, match="absent"):
        read_audio(tmp_path / "absent.wav", RATE)


def test_all_kinds_of_cells_agree(tmp_path, speech_like):
    samples = speech_like(4800, sampling_rate=48000)
    content = file_bytes(samples, 48000, "WAV", "FLOAT")
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    decoded = SimpleNamespace(data=torch.from_numpy(samples)[None], sample_rate=48000)
    cells = [
        {"bytes": content, "path": None},
        {"bytes": None, "path": str(path)},
        {"array": samples, "sampling_rate": 48000},
        {"array": samples.tolist(), "sampling_rate": 48000},
        SimpleNamespace(get_all_samples=lambda: decoded),  # a decoder of torchcodec
        str(path),
        path,
    ]
    expected = from_column(samples, RATE, sampling_rate=48000)
    assert len(expected) == 2400
    for cell in [*cells, samples.tolist(), torch.from_numpy(samples), samples.astype(np.float64)]:
        np.testing.assert_array_equal(from_column(cell, RATE, sampling_rate=48000), expected)


@pytest.mark.parametrize("cell", [None, 3, {}, {"bytes": None, "path": None}, object()])
def test_cells_without_audio_are_refused(cell):
    with pytest.raises(ValueError, match="expected audio"):
        from_column(cell, RATE)


def test_plain_arrays_need_their_rate():
    with pytest.raises(ValueError, match="sampling_rate"):
        from_column(np.zeros(10, np.float32), RATE)
