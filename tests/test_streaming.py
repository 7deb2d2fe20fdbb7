"""Chunk by chunk: the tokens and the audio of the whole, when the config says, in little memory."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_modeling_q2d2 import HOP, SEANET, STFT, VOCOS, make_model, noise, whole_codes
from torch import Tensor

from q2d2_tokenizer import Q2D2Model, default_checkpoint, quantizers, read_audio, sample_recording
from q2d2_tokenizer.audio.recordings import decode_in_chunks
from q2d2_tokenizer.layers import frame_signal
from q2d2_tokenizer.quantizers import ROUNDING_MARGIN, LatticeQuantizer, Quantizer
from q2d2_tokenizer.streaming import ExactEncoder

EXCITED = VOCOS | {"excitation_hz": 3000.0}
LOOK_AHEADS = [(None, None), (0, 0), (2, 2), (3, 4), (0, None), (None, 1)]  # of encoder and decoder


def make_hasty_model(look_aheads: tuple[int | None, int | None], **settings) -> Q2D2Model:
    """A tiny codec whose encoder and decoder look ahead so many frames."""
    encoder, decoder = look_aheads
    kwargs = {"encoder_kwargs": STFT | {"look_ahead": encoder}, "decoder_kwargs": EXCITED | {"look_ahead": decoder}}
    return make_model(**kwargs, **settings)


@pytest.fixture(scope="module", params=LOOK_AHEADS, ids=str)
def hasty_model(request) -> Q2D2Model:
    return make_hasty_model(request.param)


@pytest.fixture(scope="module")
def model() -> Q2D2Model:
    return make_model()


def cuts(length: int, sizes: list[int]) -> list[int]:
    """Ends of the chunks of a recording: of these sizes, over and over again."""
    ends = [0]
    while ends[-1] < length:
        ends.append(min(length, ends[-1] + sizes[(len(ends) - 1) % len(sizes)]))
    return ends[1:]


def random_sizes(seed: int, high: int) -> list[int]:
    return torch.randint(0, high, (50,), generator=torch.Generator().manual_seed(seed)).tolist() + [high]


def encode_chunks(model: Q2D2Model, audio: Tensor, ends: list[int]) -> list[Tensor]:
    """Codes (B, 1, T) of each chunk, and of the empty one that ends the recording."""
    cache, outputs, start = None, [], 0
    for end in ends:
        output = model.encode(audio[..., start:end], cache=cache, use_streaming=True)
        cache, start = output.cache, end
        outputs.append(output.audio_codes)
    output = model.encode(audio[..., :0], cache=cache)
    assert output.cache is None
    return [*outputs, output.audio_codes]


def decode_chunks(model: Q2D2Model, codes: Tensor, ends: list[int], num_samples: int | None = None) -> list[Tensor]:
    cache, outputs, start = None, [], 0
    for end in ends:
        output = model.decode(codes[..., start:end], cache=cache, use_streaming=True)
        cache, start = output.cache, end
        outputs.append(output.audio_values)
    return [*outputs, model.decode(codes[..., :0], cache=cache, num_samples=num_samples).audio_values]


SIZES = [[HOP - 1], [HOP], [HOP + 1], [7 * HOP], [1, 5 * HOP], *(random_sizes(seed, 9 * HOP) for seed in range(6))]


@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: str(sizes[:3]))
@pytest.mark.parametrize("num_samples", [1, HOP, 70 * HOP + 3])
def test_tokens_of_chunks_are_those_of_the_whole(sizes: list[int], num_samples: int, model: Q2D2Model):
    audio = noise(1, 1, num_samples, seed=num_samples)
    whole = model.encode(audio).audio_codes
    assert torch.equal(torch.cat(encode_chunks(model, audio, cuts(num_samples, sizes)), -1), whole)


def test_tokens_of_single_samples_are_those_of_the_whole(model: Q2D2Model):
    audio = noise(1, 1, 12 * HOP + 5)
    codes = encode_chunks(model, audio, cuts(audio.shape[-1], [1]))
    assert torch.equal(torch.cat(codes, -1), model.encode(audio).audio_codes)


@pytest.mark.parametrize(
    "sizes", [[1], [2, 3], [40], *(random_sizes(seed, 12) for seed in range(4))], ids=lambda sizes: str(sizes[:3])
)
@pytest.mark.parametrize("num_samples", [1, 60 * HOP, 60 * HOP - 7])
def test_audio_of_chunks_is_that_of_the_whole(sizes: list[int], num_samples: int, model: Q2D2Model):
    codes = model.encode(noise(1, 1, num_samples)).audio_codes
    whole = model.decode(codes, num_samples=num_samples).audio_values
    chunks = torch.cat(decode_chunks(model, codes, cuts(codes.shape[-1], sizes), num_samples), -1)
    assert chunks.shape == whole.shape and torch.allclose(chunks, whole, atol=1e-5)


def test_batches_stream_together(model: Q2D2Model):
    audio = noise(3, 1, 50 * HOP)
    whole = model.encode(audio).audio_codes
    codes = torch.cat(encode_chunks(model, audio, cuts(50 * HOP, [333])), -1)
    assert torch.equal(codes, whole)
    values = torch.cat(decode_chunks(model, codes, cuts(50, [7]), 50 * HOP - 3), -1)
    assert torch.allclose(values, model.decode(whole, num_samples=50 * HOP - 3).audio_values, atol=1e-5)


def test_a_cache_may_be_used_twice(model: Q2D2Model):
    audio, other = noise(1, 1, 40 * HOP), noise(1, 1, 40 * HOP, seed=5)
    begin = model.encode(audio, use_streaming=True)
    for end in (audio, other):
        codes = torch.cat([begin.audio_codes, model.encode(end, cache=begin.cache).audio_codes], -1)
        assert torch.equal(codes, model.encode(torch.cat([audio, end], -1)).audio_codes)


@pytest.mark.parametrize("num_samples", [1, HOP, 70 * HOP + 3])
def test_pieces_are_the_whole_whatever_the_look_ahead(num_samples: int, hasty_model: Q2D2Model):
    audio, model = noise(1, 1, num_samples, seed=num_samples), hasty_model
    codes = model.encode(audio).audio_codes
    assert torch.equal(codes[:, 0], whole_codes(model, audio))
    values = model.decode(codes, num_samples=num_samples).audio_values
    for sizes in ([1], [7, 3], random_sizes(num_samples, 12)):
        chunks = encode_chunks(model, audio, cuts(num_samples, [HOP * size + 1 for size in sizes]))
        assert torch.equal(torch.cat(chunks, -1), codes)
        chunks = decode_chunks(model, codes, cuts(codes.shape[-1], sizes))
        assert torch.allclose(torch.cat(chunks, -1)[..., :num_samples], values, atol=1e-4)
    chunks = list(decode_in_chunks(model, codes.flatten().tolist(), num_samples, tokens_per_chunk=1))
    assert torch.allclose(torch.from_numpy(np.concatenate(chunks)), values.flatten(), atol=1e-4)


def test_num_samples_comes_with_the_last_tokens():
    model, codes = make_hasty_model((0, 0)), torch.zeros(1, 1, 9).long()
    cache = model.decode(codes, use_streaming=True).cache
    assert model.decode(codes[..., :0], cache=cache, num_samples=9 * HOP).audio_values.shape[-1] == 0
    with pytest.raises(ValueError, match=f"num_samples={9 * HOP - 1} comes too late: pass it with the last tokens"):
        model.decode(codes[..., :0], cache=cache, num_samples=9 * HOP - 1)


def test_batch_is_single_whatever_the_look_ahead(hasty_model: Q2D2Model, monkeypatch):
    lengths, model = [1, 3 * HOP, 55 * HOP + 1, HOP - 1, 20 * HOP], hasty_model
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    audio = noise(len(lengths), 1, max(lengths))
    alone = [model.encode(audio[i : i + 1, :, :length]).audio_codes for i, length in enumerate(lengths)]
    monkeypatch.setattr(quantizers, "ROUNDING_MARGIN", 1e-2)
    disturbed(monkeypatch, 1e-2)
    recount, batch = Recount(monkeypatch), model.encode(audio, mask)
    assert recount.count > 0  # windows of float64 too
    chunks = encode_chunks(model, audio[2:3, :, : lengths[2]], cuts(lengths[2], [4 * HOP + 1]))
    assert torch.equal(torch.cat(chunks, -1), alone[2])
    decoded = model.decode(batch.audio_codes, batch.audio_codes_mask, lengths).audio_values
    for i, (codes, length) in enumerate(zip(alone, lengths, strict=True)):
        assert torch.equal(batch.audio_codes[i, :, : codes.shape[-1]], codes[0])
        expected = model.decode(codes, num_samples=length).audio_values
        assert torch.allclose(decoded[i, :, :length], expected[0], atol=1e-4)


def through_chunks(model: Q2D2Model, audio: Tensor) -> tuple[Tensor, list[int]]:
    """Audio that comes out while audio goes in, a hop at a time, and how much had gone in for each sample."""
    encoder_cache = decoder_cache = None
    outputs, heard = [], []
    for start in range(0, audio.shape[-1], HOP):
        encoded = model.encode(audio[..., start : start + HOP], cache=encoder_cache, use_streaming=True)
        decoded = model.decode(encoded.audio_codes, cache=decoder_cache, use_streaming=True)
        encoder_cache, decoder_cache = encoded.cache, decoded.cache
        outputs.append(decoded.audio_values[0, 0])
        heard += [start + HOP] * len(outputs[-1])
    return torch.cat(outputs), heard


def test_an_impulse_proves_the_delay(hasty_model: Q2D2Model):
    model, place = hasty_model, 90 * HOP + 7
    quiet = noise(1, 1, 130 * HOP)
    delay = HOP + model.encoder_latency_samples + model.decoder_latency_samples  # a frame and what both look ahead
    before, heard = through_chunks(model, quiet)
    assert max(count - position for position, count in enumerate(heard)) == delay
    loud = quiet.clone()
    loud[..., place] = 1.0
    after, _ = through_chunks(model, loud)
    changed = ((after - before).abs() > 1e-4).nonzero().flatten().tolist()
    assert changed and heard[changed[0]] > place  # what came out before the impulse went in does not depend on it
    assert heard[changed[0]] <= place + delay + HOP  # and it is heard as soon as it can be


def test_latency_is_as_stated(model: Q2D2Model):
    field, audio, ends = model.encoder_latency_samples, noise(1, 1, 40 * HOP), cuts(40 * HOP, [13])
    assert field == model.encoder.context_frames.after * HOP
    num_tokens = [codes.shape[-1] for codes in encode_chunks(model, audio, ends)]
    for end, count in zip(ends, torch.tensor(num_tokens).cumsum(0).tolist(), strict=False):
        assert count == max(0, (end - field) // HOP)
    codes = model.encode(audio).audio_codes
    num_samples = [values.shape[-1] for values in decode_chunks(model, codes, cuts(40, [1]))]
    for end, count in enumerate(torch.tensor(num_samples).cumsum(0).tolist()[:-1], start=1):
        assert count == max(0, end * HOP - model.decoder_latency_samples)


def test_tokens_that_came_out_do_not_depend_on_what_follows(model: Q2D2Model):
    audio = noise(1, 1, 30 * HOP)
    early = model.encode(audio, use_streaming=True).audio_codes
    for end in (audio[..., :0], noise(1, 1, 900, seed=9), 8 * noise(1, 1, 900, seed=8).clip(-1, 1)):
        whole = model.encode(torch.cat([audio, end], -1)).audio_codes
        assert torch.equal(whole[..., : early.shape[-1]], early)


def test_bundled_decoder_takes_no_tokens_in_between():
    model = Q2D2Model.from_pretrained(default_checkpoint()).eval()
    codes = torch.arange(40).view(1, 1, -1)
    chunks = torch.cat(decode_chunks(model, codes, [35, 35, 40, 40]), -1)
    assert torch.allclose(chunks, model.decode(codes).audio_values, atol=1e-5)


def test_caches_do_not_grow(model: Q2D2Model):
    sizes, encoder_cache, decoder_cache = set(), None, None
    for i in range(8):
        encoded = model.encode(noise(1, 1, 40 * HOP, seed=i), cache=encoder_cache, use_streaming=True)
        decoded = model.decode(encoded.audio_codes, cache=decoder_cache, use_streaming=True)
        encoder_cache, decoder_cache = encoded.cache, decoded.cache
        tensors = [encoder_cache.samples, *encoder_cache.frames.states, *decoder_cache.frames.states]
        sizes.add(sum(tensor.untyped_storage().nbytes() for tensor in tensors))
    assert len(sizes) == 1


class Recount:
    """Counts the windows that are computed in float64."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.count, original = 0, ExactEncoder.__call__

        def counted(exact_encoder: ExactEncoder, frames: Tensor, mask: Tensor) -> Tensor:
            self.count += len(frames)
            return original(exact_encoder, frames, mask)

        monkeypatch.setattr(ExactEncoder, "__call__", counted)


def disturbed(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    """Errors of this size on the bounded channels that float32 computes, other ones at every call."""
    original = LatticeQuantizer._bound

    def bound(self: LatticeQuantizer, latents: Tensor) -> Tensor:
        bounded = original(self, latents)
        return bounded if latents.dtype == torch.float64 else bounded + size * (2 * torch.rand_like(bounded) - 1)

    monkeypatch.setattr(LatticeQuantizer, "_bound", bound)


@pytest.mark.parametrize("lattice", ["rhombic", "hexagon", "rectangle"])
def test_rounding_does_not_change_tokens(lattice: str, monkeypatch):
    model, audio = make_model(lattice=lattice, block_frames=100), noise(1, 1, 400 * HOP)
    expected = model.encode(audio).audio_codes
    recount = Recount(monkeypatch)
    monkeypatch.setattr(quantizers, "ROUNDING_MARGIN", 1e-2)
    disturbed(monkeypatch, 1e-2)
    assert torch.equal(model.encode(audio).audio_codes, expected)
    assert torch.equal(torch.cat(encode_chunks(model, audio, cuts(400 * HOP, [1000])), -1), expected)
    assert 20 < recount.count < 200  # so the test sees some, and they are the smaller part
    disturbed(monkeypatch, 2e-2)
    assert not torch.equal(model.encode(audio).audio_codes, expected)


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_are_computed_together_do_not_see_each_other(seed: int, monkeypatch):
    model, generator = make_model(block_frames=60), torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 40 * HOP, (25,), generator=generator).tolist() + [1, HOP, 60 * HOP, 61 * HOP, 200 * HOP]
    lengths = [lengths[i] for i in torch.randperm(len(lengths), generator=generator)]
    recordings = [noise(1, length, seed=1 + i) for i, length in enumerate(lengths)]
    alone = [model.encode(audio.unsqueeze(0)).audio_codes[0] for audio in recordings]
    recount = Recount(monkeypatch)
    monkeypatch.setattr(quantizers, "ROUNDING_MARGIN", 1e-2)
    disturbed(monkeypatch, 1e-2)
    mask = torch.arange(max(lengths) + seed) < torch.tensor(lengths).unsqueeze(1)
    audio = torch.stack([F.pad(one, (0, mask.shape[1] - one.shape[1]), value=0.3) for one in recordings])
    batch = model.encode(audio, mask)
    assert recount.count > 20  # the test sees tokens near a border, at ends and beside other recordings too
    for codes, inside, expected in zip(batch.audio_codes, batch.audio_codes_mask.bool(), alone, strict=True):
        assert torch.equal(codes[:, inside], expected)


def test_short_rows_are_computed_together(monkeypatch):
    model, calls = make_model(block_frames=60), []
    monkeypatch.setattr(
        model.encoder.backbone,
        "_embed",
        lambda x, mask, f=model.encoder.backbone._embed: calls.append(len(x[0])) or f(x, mask),
    )
    model.encode(noise(12, 1, 9 * HOP))
    assert len(calls) == 2 and max(calls) < 60 + 6 * 3  # 6 and 6 rows, with 3 frames of zeros between two


def near_ties(monkeypatch: pytest.MonkeyPatch) -> tuple[Q2D2Model, list[Tensor], list[Tensor]]:
    """A model, recordings some of whose tokens are computed again in float64, and their tokens."""
    monkeypatch.setattr(quantizers, "ROUNDING_MARGIN", 1e-2)
    model = make_model(block_frames=100)
    recordings = [noise(1, 1, 150 * HOP, seed=seed) for seed in range(8)]
    return model, recordings, [model.encode(audio).audio_codes for audio in recordings]


def test_the_model_stays_as_it_is_while_tokens_are_computed_again(monkeypatch):
    model, (audio, *_), (expected, *_) = near_ties(monkeypatch)
    before, seen, original = dict(model.named_parameters()), [], LatticeQuantizer.encode

    def observed(self: LatticeQuantizer, latents: Tensor) -> Tensor:
        if latents.dtype == torch.float64:
            assert self is not model.quantizer
            seen.append({name: p for name, p in model.named_parameters() if p is not before[name]})
        return original(self, latents)

    monkeypatch.setattr(LatticeQuantizer, "encode", observed)
    assert torch.equal(model.encode(audio).audio_codes, expected)
    assert seen and not any(seen)


def test_threads_may_share_a_model(monkeypatch):
    model, recordings, expected = near_ties(monkeypatch)
    fingerprint = model.fingerprint()
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(lambda i: model.encode(recordings[i % 8]).audio_codes, range(200)))
    assert all(torch.equal(codes, expected[i % 8]) for i, codes in enumerate(outputs))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.fingerprint() == fingerprint


def test_changed_weights_count_at_once(monkeypatch):
    model, (audio, *_), _ = near_ties(monkeypatch)
    monkeypatch.setattr(LatticeQuantizer, "encode_stable", Quantizer.encode_stable)  # all tokens by the float64 copy
    before = model.encode(audio).audio_codes
    model.quantizer.project_in.weight.data.neg_()  # autograd does not see it
    changed = model.encode(audio).audio_codes
    assert not torch.equal(changed, before)
    other = make_model(block_frames=100)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.encode(audio).audio_codes, changed)


def test_float64_of_all_frames_gives_the_same_tokens(model: Q2D2Model, monkeypatch):
    audio = noise(2, 1, 100 * HOP + 9)
    expected = model.encode(audio).audio_codes
    recount = Recount(monkeypatch)
    monkeypatch.setattr(LatticeQuantizer, "encode_stable", Quantizer.encode_stable)  # what a new quantizer inherits
    assert torch.equal(model.encode(audio).audio_codes, expected)
    assert recount.count == 2 * 101
    assert torch.equal(torch.cat(encode_chunks(model, audio, cuts(audio.shape[-1], [61])), -1), expected)


def test_quiet_bands_under_a_loud_tone_do_not_depend_on_rounding():
    # In float32 the transform of the tone rounds to more than the floor of the log-mel spectrogram.
    encoder_kwargs = {"n_fft": 1280, "n_mels": 40, "depth": 2, "sample_bits": 24}
    model = make_model(encoder_kwargs=encoder_kwargs, downsampling_ratios=[320])
    time = torch.arange(24000) / 24000
    audio = 0.9 * torch.sin(2 * torch.pi * 440 * time).view(1, -1)
    audio = (audio * 2**23).round() / 2**23

    def features(dtype: torch.dtype) -> Tensor:
        windows = frame_signal(audio, 1280, 320).to(dtype) * model.encoder.window.to(dtype)
        return (torch.fft.rfft(windows).abs() @ model.encoder.mel_filters.to(dtype)).clamp_min(1e-5).log()

    exact = features(torch.float64)
    assert torch.allclose(model.encoder._features(audio.view(1, -1, 320), None, exact=True), exact, atol=1e-5)
    assert (features(torch.float32) - exact).abs().max() > 0.01


def test_models_that_see_everything_say_so():
    encoder = make_model(encoder="seanet", encoder_kwargs=SEANET)
    with pytest.raises(ValueError, match="encoder 'seanet' of this model sees the whole recording.*LSTM"):
        encoder.encode(noise(1, 1, 100), use_streaming=True)
    assert encoder.encoder_latency_samples is None and encoder.decoder_latency_samples > 0
    decoder = make_model(decoder_kwargs=VOCOS | {"attention": True})
    with pytest.raises(ValueError, match="decoder 'vocos' of this model sees the whole recording.*attention"):
        decoder.decode(torch.zeros(1, 1, 5).long(), use_streaming=True)
    assert decoder.decoder_latency_samples is None and decoder.encoder_latency_samples > 0


def test_wrong_chunks_are_refused(model: Q2D2Model):
    audio, codes = noise(2, 1, 100), torch.zeros(2, 1, 5).long()
    encoder_cache = model.encode(audio, use_streaming=True).cache
    decoder_cache = model.decode(codes, use_streaming=True).cache
    with pytest.raises(ValueError, match="cache is of 2 recordings, got a chunk of 1"):
        model.encode(audio[:1], cache=encoder_cache)
    with pytest.raises(ValueError, match="must be a Q2D2EncoderCache, got Q2D2DecoderCache"):
        model.encode(audio, cache=decoder_cache)
    with pytest.raises(ValueError, match="same length"):
        mask = torch.tensor([[1] * 100, [1] * 99 + [0]])
        model.encode(audio, mask, cache=encoder_cache)
    with pytest.raises(ValueError, match="finite"):
        model.encode(audio * torch.nan, cache=encoder_cache)
    with pytest.raises(ValueError, match="takes 6 tokens of 20 samples, got 10"):
        model.decode(codes, cache=decoder_cache, num_samples=120)
    with pytest.raises(ValueError, match="in chunks together have one num_samples"):
        model.decode(codes, cache=decoder_cache, num_samples=[200, 199])
    with pytest.raises(ValueError, match="num_samples"):
        model.decode(codes, num_samples=100, use_streaming=True)
    with pytest.raises(ValueError, match="at least one sample"):
        model.encode(audio[..., :0], cache=model.encode(audio[..., :0], use_streaming=True).cache)
    with pytest.raises(ValueError, match="at least one sample or token"):
        model.decode(codes[..., :0], cache=model.decode(codes[..., :0], use_streaming=True).cache)


def test_caches_of_other_weights_or_another_type_are_refused(model: Q2D2Model):
    audio = noise(1, 1, 30 * HOP)
    codes = model.encode(audio).audio_codes
    encoder_cache = model.encode(audio, use_streaming=True).cache
    decoder_cache = model.decode(codes, use_streaming=True).cache
    other = make_model(seed=1)
    with pytest.raises(ValueError, match="cache is of another codec: its encoder or quantizer had other weights"):
        other.encode(audio, cache=encoder_cache)
    with pytest.raises(ValueError, match="cache is of another codec: its decoder or quantizer had other weights"):
        other.decode(codes, cache=decoder_cache)
    half = copy.deepcopy(model).to(torch.bfloat16)
    with pytest.raises(ValueError, match=r"in torch.float32 on cpu, the decoder in torch.bfloat16 on cpu; keep dtype"):
        half.decode(codes, cache=decoder_cache)
    half_cache = half.decode(codes, use_streaming=True).cache
    with pytest.raises(ValueError, match=r"in torch.bfloat16 on cpu, the decoder in torch.float32 on cpu; keep dtype"):
        model.decode(codes, cache=half_cache)
    half.decode(codes, cache=half_cache)


def test_caches_and_codecs_may_be_copied_and_pickled(model: Q2D2Model):
    audio = noise(1, 1, 30 * HOP)
    codes = model.encode(audio).audio_codes
    encoder_cache = model.encode(audio, use_streaming=True).cache
    decoder_cache = model.decode(codes, use_streaming=True).cache
    for duplicate in (copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))):
        twin = duplicate(model)
        expected = model.encode(audio, cache=encoder_cache).audio_codes
        assert torch.equal(twin.encode(audio, cache=duplicate(encoder_cache)).audio_codes, expected)
        heard = model.decode(codes, cache=decoder_cache).audio_values
        assert torch.equal(twin.decode(codes, cache=duplicate(decoder_cache)).audio_values, heard)


def test_float32_of_the_bundled_weights_stays_well_within_the_margin(monkeypatch):
    model = Q2D2Model.from_pretrained(default_checkpoint()).eval()
    time = torch.arange(12000) / 24000
    fading = 0.9 * torch.sin(2 * torch.pi * 440 * time) * torch.exp(-20 * time)
    audio = torch.cat([torch.from_numpy(read_audio(sample_recording(), 24000))[24000:48000], fading]).view(1, 1, -1)
    bounded, original = [], LatticeQuantizer._bound

    def observe(self: LatticeQuantizer, latents: Tensor) -> Tensor:
        bounded.append(original(self, latents))
        return bounded[-1]

    monkeypatch.setattr(LatticeQuantizer, "_bound", observe)
    expected = model.encode(audio).audio_codes
    in_float32 = bounded[0].flatten(0, 1)
    bounded.clear()
    monkeypatch.setattr(quantizers, "ROUNDING_MARGIN", 100.0)  # then nothing is certain
    assert torch.equal(model.encode(audio).audio_codes, expected)
    in_float64 = bounded[-1].flatten(0, 1)
    assert in_float64.dtype == torch.float64 and in_float64.shape == in_float32.shape
    assert (in_float64 - in_float32).abs().max() < ROUNDING_MARGIN / 3
