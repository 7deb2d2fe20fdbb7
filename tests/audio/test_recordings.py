"""Files of any length: the tokens and samples of the whole, in chunks of bounded size."""

import numpy as np
import pytest
import soundfile
import torch
from recordings import FORMATS, file_bytes

from q2d2_tokenizer import Q2D2Config, Q2D2Model
from q2d2_tokenizer.audio import reading as audio
from q2d2_tokenizer.audio import recordings
from q2d2_tokenizer.audio.reading import read_audio, stream_audio, stream_from_column, to_mono
from q2d2_tokenizer.audio.recordings import BatchEncoder, decode_in_chunks, decode_to_file, encode_chunks, encode_file

RATE = 24000


@pytest.fixture
def small_blocks(monkeypatch) -> None:
    monkeypatch.setattr(audio, "_BLOCK_SAMPLES", 3000)
    monkeypatch.setattr(recordings, "_TOKENS_PER_CHUNK", 16)


@pytest.mark.parametrize("rate", [8000, 22050, 24000, 44100, 48000])
@pytest.mark.parametrize("num_samples", [1, 2999, 3000, 50_001])
def test_pieces_are_the_samples_of_the_whole(rate: int, num_samples: int, small_blocks, speech_like, tmp_path):
    stereo = np.stack([speech_like(num_samples, seed, rate) for seed in (1, 2)], axis=1)
    path = tmp_path / "a.wav"
    path.write_bytes(file_bytes(stereo, rate, "WAV", "FLOAT"))
    expected = to_mono(stereo.mean(axis=1), rate, RATE)  # resampled at once
    for source in (path, path.read_bytes()):
        chunks = list(stream_audio(source, RATE))
        np.testing.assert_array_equal(np.concatenate(chunks), expected)
        assert len(chunks) >= min(num_samples, 6000) // 3000 and max(map(len, chunks)) < 4 * 3000 * max(1, RATE / rate)
    np.testing.assert_array_equal(read_audio(path, RATE), expected)


@pytest.mark.parametrize(("suffix", "file_format", "subtype"), FORMATS)
def test_blocks_have_the_samples_of_the_whole(suffix, file_format, subtype, speech_like, monkeypatch):
    content = file_bytes(speech_like(50_000), RATE, file_format, subtype)
    whole = read_audio(content, RATE)
    for size in (997, 3000):
        monkeypatch.setattr(audio, "_BLOCK_SAMPLES", size)
        np.testing.assert_allclose(read_audio(content, RATE), whole, atol=1e-6)


@pytest.mark.parametrize(("suffix", "file_format", "subtype"), FORMATS)
def test_damage_is_found_in_chunks(suffix, file_format, subtype, small_blocks, speech_like, tmp_path):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(file_bytes(speech_like(30000), RATE, file_format, subtype)[:-40])
    with pytest.raises(ValueError, match=r"damaged or cut off|cannot read"):
        list(stream_audio(path, RATE))


def test_long_file_is_encoded_and_decoded_in_chunks(tiny_model, small_blocks, speech_like, tmp_path, monkeypatch):
    content = file_bytes(speech_like(8000 * 6, 0, 8000), 8000, "FLAC", "PCM_16")
    whole = tiny_model(torch.from_numpy(read_audio(content, RATE)).view(1, 1, -1))
    sizes = {"encode": [], "decode": []}
    for name, seen in sizes.items():
        original = getattr(tiny_model, name)
        monkeypatch.setattr(
            tiny_model, name, lambda x, f=original, seen=seen, **kwargs: seen.append(x.numel()) or f(x, **kwargs)
        )
    codes, num_samples = encode_file(tiny_model, content)
    assert num_samples == 6 * RATE
    assert np.array_equal(codes, whole.audio_codes.flatten())
    decode_to_file(tiny_model, codes, num_samples, tmp_path / "a.wav")
    decoded, rate = soundfile.read(tmp_path / "a.wav", dtype="float32")
    assert rate == RATE and decoded.shape == (num_samples,)
    np.testing.assert_allclose(decoded, whole.audio_values.flatten().clamp(-1, 1), atol=2**-15)
    assert len(sizes["encode"]) >= 16 and max(sizes["encode"]) < 20_000
    assert len(sizes["decode"]) >= 28 and max(sizes["decode"]) == 16


def test_short_recording_is_encoded_at_once(tiny_model, speech_like, monkeypatch):
    calls = []
    encode = tiny_model.encode
    monkeypatch.setattr(tiny_model, "encode", lambda *args, **kwargs: calls.append(kwargs) or encode(*args, **kwargs))
    encode_chunks(tiny_model, stream_from_column(speech_like(5000), RATE, RATE))
    assert calls == [{"cache": None, "use_streaming": False}]


def test_model_that_sees_everything_gets_everything(speech_like):
    kwargs = {"encoder": "seanet", "encoder_kwargs": {"num_filters": 2, "lstm_layers": 1}, "hidden_size": 8}
    decoder = {"dim": 8, "depth": 1, "attention": True}
    model = Q2D2Model(Q2D2Config(downsampling_ratios=[20, 16], decoder_kwargs=decoder, **kwargs)).eval()
    samples = speech_like(9000)
    codes, num_samples = encode_chunks(model, np.array_split(samples, 4))
    expected = model(torch.from_numpy(samples).view(1, 1, -1))
    assert num_samples == 9000 and np.array_equal(codes, expected.audio_codes.flatten())
    (decoded,) = decode_in_chunks(model, codes, num_samples)
    assert np.array_equal(decoded, expected.audio_values.flatten())


def test_nothing_is_written_if_tokens_do_not_fit(tiny_model, tmp_path):
    for codes, num_samples in ([10**6], 320), ([1, 2], 320):
        with pytest.raises(ValueError, match=r"within 0 and|takes 1 tokens"):
            decode_to_file(tiny_model, np.array(codes), num_samples, tmp_path / "a.wav")
    assert not list(tmp_path.iterdir())


def test_recordings_of_a_batch_are_those_alone(tiny_model, speech_like):
    recordings = [speech_like(n, n) for n in (1, 5000, 12_000, 400_000, 320, 70_000, 70_000, 90_000)]
    encoder, chunked = BatchEncoder(tiny_model), np.split(recordings[2], [7000])
    for number, recording in enumerate(recordings):
        assert encoder.add(chunked if number == 2 else [recording]) == len(recording)
        for wrong in (np.zeros(0, np.float32), np.array([np.nan], np.float32)):
            with pytest.raises(ValueError, match="sample"):
                encoder.add([wrong])  # is not added, and the others are there
    for codes, recording in zip(encoder.finish(), recordings, strict=True):
        assert codes.tolist() == encode_chunks(tiny_model, [recording])[0].tolist()


def test_live_audio_begins_with_a_short_chunk_and_chunks_double(tiny_model):
    codes = torch.randint(0, tiny_model.config.codebook_size, (1, 1, 200), generator=torch.Generator().manual_seed(0))
    taken = []

    def live():
        for code in codes.flatten().tolist():
            taken.append(code)
            yield code

    hop, after = tiny_model.config.hop_length, tiny_model.decoder.context_frames.after
    chunks, counts = [], []
    for chunk in decode_in_chunks(tiny_model, live(), tokens_per_chunk=10, is_live=True):
        chunks.append(chunk)
        counts.append(len(taken))
    assert [len(chunk) // hop for chunk in chunks[:4]] == [3, 6, 10, 10]
    assert counts[:2] == [after + 3, after + 9]  # audio comes as soon as it is determined
    whole = tiny_model.decode(codes).audio_values.flatten().numpy()
    assert np.allclose(np.concatenate(chunks), whole, atol=1e-5)
