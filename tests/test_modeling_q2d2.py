"""The promises of the codec: tokens independent of batch, cut and threads; exact lengths; errors that say what came."""

import copy
import io
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_utils import local_torch_dtype

from q2d2_tokenizer import Q2D2Config, Q2D2Model, lattices, streaming
from q2d2_tokenizer.training.gan import Autoencoder

HOP = 20
STFT = {"n_fft": 80, "n_mels": 6, "depth": 2, "kernel_size": 3}
SEANET = {"num_filters": 2, "lstm_layers": 1}
VOCOS = {"dim": 8, "depth": 2, "kernel_size": 3}


def make_model(seed: int = 0, **settings) -> Q2D2Model:
    """A tiny codec with random weights whose tokens and samples vary from frame to frame."""
    torch.manual_seed(seed)
    values = {
        "downsampling_ratios": [5, 4],
        "hidden_size": 8,
        "levels": [7, 7, 5, 5],
        "encoder_kwargs": STFT,
        "decoder_kwargs": VOCOS,
        "block_frames": 7,
    }
    model = Q2D2Model(Q2D2Config(**(values | settings))).eval()
    for weight in model.parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
    nn.init.normal_(model.quantizer.project_in.weight)
    return model


@pytest.fixture(scope="module")
def model() -> Q2D2Model:
    return make_model()


@pytest.fixture(scope="module", params=["finite", "infinite"])
def any_model(request) -> Q2D2Model:
    """The convolutional model, and the one of the paper, whose frames depend on the whole recording."""
    if request.param == "finite":
        return make_model()
    return make_model(encoder="seanet", encoder_kwargs=SEANET, decoder_kwargs=VOCOS | {"attention": True})


def noise(*shape: int, seed: int = 1) -> Tensor:
    """Noise whose loudness changes, so that its tokens do."""
    generator = torch.Generator().manual_seed(seed)
    loudness = (torch.randn(shape[-1] // 50 + 1, generator=generator)).exp().repeat_interleave(50)[: shape[-1]]
    return 0.05 * torch.randn(*shape, generator=generator) * loudness


def whole_codes(model: Q2D2Model, audio: Tensor) -> Tensor:
    """Codes (B, T) of audio (B, 1, N) by the parts of the model in one plain pass."""
    padded = nn.functional.pad(audio, (0, -audio.shape[-1] % model.config.hop_length))
    with torch.no_grad():
        return model.quantizer(model.encoder(padded))[1]


def test_tokens_vary(any_model: Q2D2Model):
    assert any_model.encode(noise(1, 1, 4000)).audio_codes.unique().numel() > 40


def test_batch_invariance(any_model: Q2D2Model):
    lengths = torch.randint(1, 800, (20,), generator=torch.Generator().manual_seed(2)).tolist() + [1, HOP, 800]
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(-1)).long()
    audio = noise(len(lengths), 1, max(lengths))  # what stands in the padding must not matter
    batch = any_model.encode(audio, mask)
    decoded = any_model.decode(batch.audio_codes, batch.audio_codes_mask, lengths).audio_values
    for i, length in enumerate(lengths):
        alone = any_model.encode(audio[i : i + 1, :, :length]).audio_codes
        tokens = alone.shape[-1]
        assert torch.equal(batch.audio_codes[i, :, :tokens], alone[0])
        assert batch.audio_codes_mask[i].tolist() == [1] * tokens + [0] * (batch.audio_codes.shape[-1] - tokens)
        assert (batch.audio_codes[i, :, tokens:] == 0).all()
        expected = any_model.decode(alone, num_samples=length).audio_values[0]
        assert torch.allclose(decoded[i, :, :length], expected, atol=1e-5)
        assert (decoded[i, :, length:] == 0).all()


@pytest.mark.parametrize("block_frames", [1, 7, 50, 256])
@pytest.mark.parametrize("num_samples", [1, 7 * HOP, 7 * HOP + 1, 3333])
def test_blocks_equal_the_whole(block_frames: int, num_samples: int):
    model, audio = make_model(block_frames=block_frames), noise(1, 1, num_samples)
    codes = model.encode(audio).audio_codes
    assert torch.equal(codes[:, 0], whole_codes(model, audio))
    with torch.no_grad():
        expected = model.decoder(model.quantizer.decode(codes[:, 0]))
    assert torch.allclose(model.decode(codes).audio_values, expected, atol=1e-5)


@pytest.mark.parametrize("per_call", [2, 32])
def test_blocks_computed_together_equal_blocks_one_by_one(per_call: int, model: Q2D2Model, monkeypatch):
    audio = noise(1, 1, 3333)
    codes = model.encode(audio).audio_codes
    values = model.decode(codes).audio_values
    monkeypatch.setitem(streaming._BLOCKS_PER_CALL, "cpu", per_call)
    assert torch.equal(model.encode(audio).audio_codes, codes)
    assert torch.allclose(model.decode(codes).audio_values, values, atol=1e-5)


@pytest.mark.parametrize("frame", [0, 20, 33, 99])
@pytest.mark.parametrize("n_fft", [20, 50, 80, 120])
def test_token_depends_on_the_receptive_field_only(n_fft: int, frame: int):
    model, audio = make_model(encoder_kwargs=STFT | {"n_fft": n_fft}), noise(1, 1, 100 * HOP)
    field = model.receptive_field_samples
    inside = torch.zeros(100 * HOP, dtype=torch.bool)
    inside[max(0, frame * HOP - field) : (frame + 1) * HOP + field] = True
    codes = model.encode(audio).audio_codes[0, 0]
    for seed in range(5):
        changed = torch.where(inside, audio, noise(1, 1, 100 * HOP, seed=10 + seed))
        changed_codes = model.encode(changed).audio_codes[0, 0]
        assert changed_codes[frame] == codes[frame]
        assert not torch.equal(changed_codes, codes)


def test_audio_depends_on_the_context_of_the_decoder_only(model: Q2D2Model):
    codes = torch.randint(model.config.codebook_size, (1, 1, 60), generator=torch.Generator().manual_seed(3))
    changed = codes.clone()
    changed[..., 30] = (changed[..., 30] + 100) % model.config.codebook_size
    difference = (model.decode(codes).audio_values - model.decode(changed).audio_values).abs().view(60, HOP).sum(-1)
    before, after = model.decoder.context_frames
    assert difference[30] > 0
    assert (difference[: 30 - after] == 0).all() and (difference[31 + before :] == 0).all()


def test_any_cut_at_frames_gives_the_same_tokens(model: Q2D2Model):
    # Chunks with the context on both sides, cut at frames; block boundaries then fall elsewhere.
    audio, field = noise(1, 1, 200 * HOP), model.receptive_field_samples
    codes = model.encode(audio).audio_codes
    for start, stop in ((0, 50), (13, 90), (77, 78), (150, 200)):
        first = max(0, start * HOP - field)
        chunk = model.encode(audio[..., first : stop * HOP + field]).audio_codes
        skip = start - first // HOP
        assert torch.equal(chunk[..., skip : skip + stop - start], codes[..., start:stop])


@pytest.mark.parametrize("num_samples", [1, HOP - 1, HOP, HOP + 1, 1001, 7 * HOP])
def test_length_is_exact(num_samples: int, model: Q2D2Model):
    audio = noise(2, 1, num_samples)
    codes = model.encode(audio).audio_codes
    assert codes.shape == (2, 1, -(-num_samples // HOP)) and codes.dtype == torch.int64
    assert model.decode(codes, num_samples=num_samples).audio_values.shape == audio.shape
    assert model.decode(codes).audio_values.shape[-1] == codes.shape[-1] * HOP


def test_length_of_ten_seconds_is_exact():
    assert make_model(block_frames=500)(noise(1, 1, 239_999)).audio_values.shape == (1, 1, 239_999)


@pytest.mark.parametrize("masked", [False, True])
def test_forward_is_decode_of_encode(any_model: Q2D2Model, masked: bool):
    audio = noise(3, 1, 999)
    lengths = torch.tensor([999, 500, 1])
    mask = (torch.arange(999) < lengths.unsqueeze(-1)).long() if masked else None
    output, encoded = any_model(audio, mask), any_model.encode(audio, mask)
    num_samples = lengths if masked else 999
    decoded = any_model.decode(encoded.audio_codes, encoded.audio_codes_mask, num_samples)
    assert output.audio_values.shape == audio.shape
    assert torch.equal(output.audio_values, decoded.audio_values)
    assert torch.equal(output.audio_codes, encoded.audio_codes)
    assert torch.equal(output.audio_codes_mask, encoded.audio_codes_mask)


def test_outputs_can_be_tuples(model: Q2D2Model):
    audio = noise(1, 1, 100)
    codes, mask = model.encode(audio, return_dict=False)
    (values,) = model.decode(codes, mask, return_dict=False)
    assert torch.equal(model(audio, return_dict=False)[0], values)


@pytest.mark.parametrize(
    ("codes", "kwargs", "message"),
    [
        (torch.full((1, 1, 3), 10**6), {}, "within 0 and .*, got 1000000"),
        (torch.full((1, 1, 3), -1), {}, "got -1"),
        (torch.zeros(1, 1, 3), {}, "must be integers, got torch.float32"),
        (torch.zeros(1, 3).long(), {}, r"\(batch, 1, tokens\), got \(1, 3\)"),
        (torch.zeros(1, 2, 3).long(), {}, r"got \(1, 2, 3\)"),
        (torch.zeros(1, 1, 0).long(), {}, "at least one token"),
        (torch.zeros(1, 1, 3).long(), {"num_samples": 2 * HOP}, "takes 2 tokens of 20 samples, got 3 tokens"),
        (torch.zeros(1, 1, 3).long(), {"num_samples": 3 * HOP + 1}, "takes 4 tokens"),
        (torch.zeros(1, 1, 3).long(), {"num_samples": 0}, "takes 0 tokens"),
        (torch.zeros(2, 1, 3).long(), {"num_samples": [60]}, "one number or 2, got 1"),
        (torch.zeros(1, 1, 3).long(), {"audio_codes_mask": torch.tensor([[0, 1, 1]])}, "padding goes on the right"),
        (torch.zeros(1, 1, 3).long(), {"audio_codes_mask": torch.ones(1, 4)}, r"shape \(1, 3\)"),
        (torch.zeros(1, 1, 3).long(), {"audio_mask": torch.ones(1, 3)}, r"unknown arguments \['audio_mask'\]"),
    ],
)
def test_decode_refuses(codes: Tensor, kwargs: dict, message: str, model: Q2D2Model):
    with pytest.raises(ValueError, match=message):
        model.decode(codes, **kwargs)


def test_decode_ignores_what_is_behind_the_mask(model: Q2D2Model):
    codes = torch.tensor([[[5, 6, -100]]])
    decoded = model.decode(codes, torch.tensor([[1, 1, 0]])).audio_values
    assert torch.equal(decoded, model.decode(codes[..., :2]).audio_values)


@pytest.mark.parametrize(
    ("audio", "kwargs", "message"),
    [
        (torch.zeros(1, 2, 100), {}, r"mono audio of shape \(batch, 1, samples\), got \(1, 2, 100\)"),
        (torch.zeros(100), {}, r"got \(100,\)"),
        (torch.zeros(1, 1, 100).long(), {}, "must be floats"),
        (torch.full((1, 1, 100), torch.nan), {}, "finite"),
        (torch.full((1, 1, 100), torch.inf), {}, "finite"),
        (torch.full((1, 1, 100), -8.01), {}, r"input_values\[0\] has a peak of 8.01; .* at most 8 is taken"),
        (torch.full((1, 1, 100), 1e30), {}, "divide samples of 16 bits by 32768"),
        (torch.zeros(1, 1, 0), {}, "at least one sample"),
        (torch.zeros(1, 1, 3), {"padding_mask": torch.tensor([[0, 1, 1]])}, "padding goes on the right"),
        (torch.zeros(1, 1, 3), {"padding_mask": torch.tensor([[1, 0, 1]])}, "padding goes on the right"),
        (torch.zeros(1, 1, 3), {"padding_mask": torch.tensor([[0, 0, 0]])}, "at least one sample"),
        (torch.zeros(1, 1, 3), {"padding_mask": torch.ones(1, 1, 3)}, r"shape \(1, 3\), \(batch, samples\)"),
        (torch.zeros(1, 1, 3), {"attention_mask": torch.ones(1, 3)}, r"unknown arguments \['attention_mask'\]"),
    ],
)
def test_encode_refuses(audio: Tensor, kwargs: dict, message: str, model: Q2D2Model):
    for method in (model.encode, model):
        with pytest.raises(ValueError, match=message):
            method(audio, **kwargs)


def test_only_peaks_of_the_recording_itself_are_warned_of(model: Q2D2Model, caplog):
    audio, mask = torch.zeros(2, 1, 700), torch.ones(2, 700, dtype=torch.int32)
    audio[0, 0, 650], mask[0, 640:] = 100.0, 0  # padding
    model.encode(audio, mask)
    assert not caplog.records
    audio[1, 0, 3] = -2.5
    model.encode(audio, mask)
    assert [record.message.split(";")[0] for record in caplog.records] == ["input_values[1] has a peak of 2.5"]


@pytest.mark.parametrize("level", [0.0, 1e-30, 1.0, 8.0])
def test_silence_and_extremes_give_finite_audio(any_model: Q2D2Model, level: float):
    output = any_model(torch.full((1, 1, 500), level))
    assert output.audio_values.isfinite().all()
    assert output.audio_codes.min() >= 0 and output.audio_codes.max() < any_model.config.codebook_size


def test_gradient_reaches_every_weight():
    for settings in (
        {},
        {"encoder": "seanet", "encoder_kwargs": SEANET},
        {"decoder_kwargs": VOCOS | {"attention": True}},
    ):
        model = make_model(**settings)
        audio, codes, _ = Autoencoder(model)(noise(2, 1, 30 * HOP))
        assert audio.shape == (2, 1, 30 * HOP) and codes.shape == (2, 30)
        audio.square().mean().backward()
        for name, weight in model.named_parameters():
            assert weight.grad is not None and weight.grad.isfinite().all(), name
            # A constant added to all scores of a query cancels in the softmax.
            assert weight.grad.abs().sum() > 0 or name.endswith("qkv.bias"), name


def test_training_path_gives_nearly_the_tokens_of_encode(model: Q2D2Model):
    audio = noise(2, 1, 300 * HOP)
    codes = model.encode(audio).audio_codes[:, 0]
    assert (Autoencoder(model)(audio)[1] == codes).float().mean() > 0.9
    audio = (audio * 2**15).round() / 2**15
    assert (Autoencoder(model)(audio)[1] == codes).float().mean() > 0.99


GRAD_MODES = [torch.enable_grad, torch.no_grad, torch.inference_mode]


@pytest.mark.parametrize("mode", GRAD_MODES)
def test_tokens_do_not_depend_on_the_state_of_autograd(any_model: Q2D2Model, mode):
    audio = noise(2, 1, 100 * HOP)
    expected = any_model.encode(audio).audio_codes
    with mode():
        assert torch.equal(any_model.encode(audio).audio_codes, expected)


@pytest.mark.parametrize("mode", GRAD_MODES)
def test_training_path_does_not_depend_on_the_state_of_autograd(model: Q2D2Model, mode):
    audio = noise(2, 1, 100 * HOP)
    latents, (values, codes, _) = model.encoder(audio), Autoencoder(model)(audio)
    with mode():
        found_values, found_codes, _ = Autoencoder(model)(audio)
        assert torch.equal(model.encoder(audio), latents)
        assert torch.equal(found_values, values) and torch.equal(found_codes, codes)


def test_what_is_exact_is_said_and_not_guessed(model: Q2D2Model):
    audio = noise(1, 1, 20 * HOP).requires_grad_()
    exact, in_training = model.encoder(audio, exact=True), model.encoder(audio, exact=False)
    assert not torch.equal(exact, in_training) and torch.allclose(exact, in_training, atol=0.5)
    (gradient,) = torch.autograd.grad(in_training.sum(), audio)
    assert (gradient != 0).any()
    with_silence = torch.cat([torch.zeros(1, 1, 20 * HOP), audio.detach()], dim=-1).requires_grad_()
    (gradient,) = torch.autograd.grad(model.encoder(with_silence, exact=False).sum(), with_silence)
    assert gradient.isfinite().all() and (gradient != 0).any()
    rounded = (audio.detach() * 2**15).round() / 2**15
    assert torch.equal(model.encoder(rounded), exact) and not torch.equal(model.encoder(rounded, exact=False), exact)


def test_decoding_builds_no_lattice(model: Q2D2Model, monkeypatch):
    codes, cache = model.encode(noise(1, 1, 30 * HOP)).audio_codes, None
    monkeypatch.setattr(lattices, "build_groups", lambda *_: pytest.fail("built the lattice again"))
    model.decode(codes)
    for code in codes.split(1, dim=-1):
        cache = model.decode(code, cache=cache, use_streaming=True).cache


def test_receptive_field_is_known_or_none(model: Q2D2Model):
    assert model.receptive_field_samples == max(model.encoder.context_frames) * HOP > 0
    assert make_model(encoder="seanet", encoder_kwargs=SEANET).receptive_field_samples is None
    attention = make_model(decoder_kwargs=VOCOS | {"attention": True})
    assert attention.decoder.context_frames is None
    assert attention.receptive_field_samples is not None  # its tokens still have a finite one


@pytest.mark.parametrize("num_frames", [17, 23, 24, 31, 500, 512])
def test_recording_is_computed_in_blocks_of_about_the_same_size(num_frames: int, monkeypatch):
    model, sizes = make_model(block_frames=16), {streaming.ChunkEncoder: [], streaming.ChunkDecoder: []}
    for cls, seen in sizes.items():
        monkeypatch.setattr(
            cls, "block", lambda *args, f=cls.block, seen=seen: seen.append(args[1].shape[1]) or f(*args)
        )
    model.decode(model.encode(noise(1, 1, num_frames * HOP)).audio_codes)
    for seen, unit in ((sizes[streaming.ChunkEncoder], HOP), (sizes[streaming.ChunkDecoder], 1)):
        assert sum(seen) == num_frames * unit and max(seen) <= 24 * unit
        assert len(seen) == 1 or min(seen) >= 12 * unit


def test_tokens_do_not_depend_on_threads():
    model = make_model(hidden_size=96, block_frames=128)
    audio, threads, codes = noise(1, 1, 300 * HOP), torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            codes.append(model.encode(audio).audio_codes)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*codes)


@pytest.mark.parametrize("cast", [torch.bfloat16, torch.float16, torch.float64])
def test_a_cast_model_gives_the_same_tokens(any_model: Q2D2Model, cast: torch.dtype):
    model, audio = copy.deepcopy(any_model).to(cast), noise(2, 1, 100 * HOP)
    output, expected = model(audio), any_model(audio)
    assert torch.equal(output.audio_codes, expected.audio_codes)
    assert model.fingerprint() == any_model.fingerprint()
    assert output.audio_values.dtype == torch.float32 and output.audio_values.shape == audio.shape
    assert torch.allclose(output.audio_values, expected.audio_values, atol=0.1 * expected.audio_values.abs().max())
    assert {p.dtype for part in (model.encoder, model.quantizer) for p in part.parameters()} == {torch.float32}
    assert {p.dtype for p in model.decoder.parameters()} == {cast}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_autocast_and_the_default_dtype_do_not_change_tokens(any_model: Q2D2Model, dtype: torch.dtype):
    audio = noise(2, 1, 100 * HOP)
    expected = any_model.encode(audio).audio_codes
    if dtype != torch.float64:
        with torch.autocast("cpu", dtype):
            assert torch.equal(any_model.encode(audio).audio_codes, expected)
    with local_torch_dtype(dtype):
        model = Q2D2Model(any_model.config)
        model.load_state_dict(any_model.state_dict())
        assert torch.equal(model.encode(audio).audio_codes, expected)
        assert torch.equal(any_model.encode(audio).audio_codes, expected)
    assert model.fingerprint() == any_model.fingerprint()
    assert torch.equal(any_model.encode(audio.double()).audio_codes, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", ["encoder.backbone.blocks.1", "quantizer.project_in"])
def test_parts_in_another_precision_are_refused(name: str, dtype: torch.dtype):
    model, audio = make_model(), noise(1, 1, 100)
    model.get_submodule(name).to(dtype)
    for kwargs in ({}, {"use_streaming": True}):
        with pytest.raises(ValueError, match=rf"float32 parameters only, got {dtype} in .*model\.float\(\)"):
            model.encode(audio, **kwargs)
    model.float().encode(audio)


def pickled(model: Q2D2Model) -> Q2D2Model:
    content = io.BytesIO()
    torch.save(model, content)
    content.seek(0)
    return torch.load(content, weights_only=False)


@pytest.mark.parametrize("duplicate", [pickled, copy.deepcopy])
def test_a_copy_gives_the_same_and_is_its_own(any_model: Q2D2Model, duplicate):
    audio, fingerprint = noise(1, 1, 50 * HOP), any_model.fingerprint()
    expected = any_model(audio)
    model = duplicate(any_model)
    output = model(audio)
    assert torch.equal(output.audio_codes, expected.audio_codes) and model.fingerprint() == fingerprint
    assert torch.equal(output.audio_values, expected.audio_values)
    nn.init.normal_(model.quantizer.project_in.weight)
    assert not torch.equal(model.encode(audio).audio_codes, expected.audio_codes)
    assert any_model.fingerprint() == fingerprint
    with pytest.raises(ValueError, match="points a group instead of"):
        model.load_state_dict(make_model(levels=[5, 5, 5, 5]).state_dict())


@pytest.mark.slow
def test_processes_encode_with_a_model_sent_to_them(model: Q2D2Model):
    audio = noise(1, 1, 50 * HOP)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        codes = pool.submit(model.encode, audio).result().audio_codes
    assert torch.equal(codes, model.encode(audio).audio_codes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": "sfft"}, "encoder must be one of"),
        ({"decoder": "hifigan"}, "decoder must be one of"),
        ({"quantizer": "rvq"}, "quantizer must be one of"),
        ({"encoder_kwargs": {"n_ftt": 80}}, r"got unknown \['n_ftt'\]"),
    ],
)
def test_unknown_parts_are_refused(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        make_model(**settings)


def test_fingerprint_is_that_of_the_tokens(tiny_model):
    def fingerprint_after(part: str, **settings) -> str:
        config = Q2D2Config(**{**tiny_model.config.to_dict(), **settings})
        model = Q2D2Model(config)
        model.load_state_dict(tiny_model.state_dict())
        with torch.no_grad():
            next(model.get_submodule(part).parameters()).add_(0.01)
        return model.fingerprint()

    same = tiny_model.fingerprint()
    assert fingerprint_after("decoder", block_frames=tiny_model.config.block_frames + 1) == same
    assert fingerprint_after("encoder") != same and fingerprint_after("quantizer") != same
    assert fingerprint_after("decoder", sampling_rate=tiny_model.config.sampling_rate - 1) != same


def test_half_precision_audio_is_warned_of(model, caplog):
    model.encode(torch.zeros(1, 1, 640, dtype=torch.bfloat16))
    assert "pass float32" in caplog.text


@pytest.mark.parametrize("name", ["encoder", "quantizer.project_in", "decoder"])
def test_weights_that_are_no_numbers_are_refused(tiny_model, tmp_path, name):
    with torch.no_grad():
        next(tiny_model.get_submodule(name).parameters()).view(-1)[0] = float("nan" if "." in name else "inf")
    tiny_model.save_pretrained(tmp_path / "codec")
    with pytest.raises(ValueError, match=rf"holds NaN or infinity in \['{name}.*get it again"):
        Q2D2Model.from_pretrained(tmp_path / "codec")


def test_numbers_of_samples_are_numbers(tiny_model):
    codes = torch.zeros(1, 1, 3, dtype=torch.long)
    for wrong in ("1", [None], 2.5):
        with pytest.raises(ValueError, match="num_samples must be an integer or one for each item, got"):
            tiny_model.decode(codes, num_samples=wrong)
