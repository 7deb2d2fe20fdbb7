"""Every registered encoder and decoder: shapes, frame counts, context and errors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from q2d2_tokenizer import Q2D2Config, default_checkpoint
from q2d2_tokenizer.decoders import DECODERS, ExcitedIstftHead, place_windows
from q2d2_tokenizer.encoders import ENCODERS
from q2d2_tokenizer.layers import ConvNeXtBackbone, ConvNeXtBlock, frame_signal, mel_filters, overlap_add

try:
    from transformers.audio_utils import mel_filter_bank
except ImportError:  # announced
    mel_filter_bank = None

HOP = 12
SMALL = {
    "stft": {"n_fft": 48, "n_mels": 4, "depth": 2, "kernel_size": 3},
    "seanet": {"num_filters": 2, "lstm_layers": 1},
    "vocos": {"dim": 6, "depth": 2, "kernel_size": 3},
}
ENCODER_CASES = [(name, {}) for name in ENCODERS] + [
    ("stft", {"n_fft": n_fft, "kernel_size": kernel_size}) for n_fft in (12, 13, 37, 38, 96) for kernel_size in (1, 5)
]
ENCODER_CASES += [("stft", {"look_ahead": frames}) for frames in (0, 1, 2, 3, 5)]
ENCODER_CASES += [("stft", {"n_fft": n_fft, "look_ahead": 1}) for n_fft in (12, 13, 38, 96)]
DECODER_CASES = [(name, {}) for name in DECODERS] + [
    ("vocos", {"attention": True}),
    *(("vocos", {"excitation_hz": 3000.0, "overlap": overlap}) for overlap in (1, 2, 4)),
    *(("vocos", {"overlap": overlap}) for overlap in (1, 2, 3, 5, 8)),
    *(("vocos", {"overlap": overlap, "look_ahead": frames}) for overlap in (1, 2, 3, 4) for frames in (0, 1, 3)),
    *(("vocos", {"excitation_hz": 3000.0, "look_ahead": frames}) for frames in range(8)),
]


def build(registry: dict, name: str, kwargs: dict) -> nn.Module:
    """A small part with random weights that let every input matter."""
    torch.manual_seed(0)
    config = Q2D2Config(downsampling_ratios=[3, 2, 2], hidden_size=8, levels=[5, 5])
    part = registry[name](config, **{**SMALL.get(name, {}), **kwargs}).eval()
    for weight in part.parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
    return part


@pytest.mark.parametrize(("name", "kwargs"), ENCODER_CASES)
@pytest.mark.parametrize("frames", [1, 2, 13])
def test_encoder_gives_one_latent_per_hop(name: str, kwargs: dict, frames: int):
    encoder = build(ENCODERS, name, kwargs)
    latents = encoder(torch.randn(3, 1, frames * HOP))
    assert latents.shape == (3, frames, 8) and latents.isfinite().all()
    assert encoder(torch.zeros(1, 1, frames * HOP)).isfinite().all()


@torch.no_grad()
def test_stft_hears_samples_of_so_many_bits():
    encoder = build(ENCODERS, "stft", {"sample_bits": 8})
    audio = torch.randn(1, 1, 5 * HOP) / 10
    assert torch.equal(encoder(audio), encoder((audio * 128).round() / 128))
    assert not torch.equal(encoder(audio), build(ENCODERS, "stft", {"sample_bits": 9})(audio))
    with pytest.raises(ValueError, match="sample_bits must be within 2 and 24, got 1"):
        build(ENCODERS, "stft", {"sample_bits": 1})


def test_stft_is_deaf_below_its_mel_floor():
    torch.manual_seed(0)
    noise = 1e-4 * torch.randn(1, 1, 20 * HOP)
    deaf, keen = (build(ENCODERS, "stft", {"mel_floor": floor}) for floor in (0.1, 1e-5))
    assert torch.equal(deaf(noise), deaf(torch.zeros_like(noise)))
    assert not torch.allclose(keen(noise), keen(torch.zeros_like(noise)), atol=1e-3)
    with pytest.raises(ValueError, match="mel_floor must be above 0, got 0"):
        build(ENCODERS, "stft", {"mel_floor": 0.0})


@pytest.mark.parametrize(("name", "kwargs"), DECODER_CASES)
@pytest.mark.parametrize("frames", [1, 2, 13])
def test_decoder_gives_one_hop_per_latent(name: str, kwargs: dict, frames: int):
    audio = build(DECODERS, name, kwargs)(torch.randn(3, frames, 8))
    assert audio.shape == (3, 1, frames * HOP) and audio.isfinite().all()


@pytest.mark.parametrize("ratios", [[2], [3, 1], [4, 3, 1], [5, 2, 3]])
def test_seanet_takes_any_ratios(ratios: list[int]):
    config = Q2D2Config(downsampling_ratios=ratios, hidden_size=8, levels=[5, 5])
    encoder = ENCODERS["seanet"](config, **SMALL["seanet"])
    assert encoder(torch.randn(1, 1, 7 * config.hop_length)).shape == (1, 7, 8)


def found_context(gradients: torch.Tensor) -> tuple[int, int]:
    """Frames before and after the middle one that have gradients (T,)."""
    middle, used = len(gradients) // 2, gradients.nonzero().flatten().tolist()
    assert 0 < used[0] <= middle <= used[-1] < len(gradients) - 1
    return middle - used[0], used[-1] - middle


@pytest.mark.parametrize(("name", "kwargs"), ENCODER_CASES)
def test_latent_depends_on_its_context_only(name: str, kwargs: dict):
    encoder, frames = build(ENCODERS, name, kwargs), 41
    audio = torch.randn(1, 1, frames * HOP, requires_grad=True)
    encoder(audio, exact=False)[0, frames // 2].square().sum().backward()
    per_frame = audio.grad.view(frames, HOP).abs().sum(-1)
    if encoder.context_frames is None:
        assert (per_frame[: frames // 2] > 0).all()
    else:
        (before, after), context = found_context(per_frame), encoder.context_frames
        assert after == context.after and before in (context.before, context.before - (encoder.n_fft % HOP > 0))


@pytest.mark.parametrize(("name", "kwargs"), DECODER_CASES)
def test_audio_depends_on_its_context_only(name: str, kwargs: dict):
    decoder, frames = build(DECODERS, name, kwargs), 61
    latents = torch.randn(1, frames, 8, requires_grad=True)
    decoder(latents).view(frames, HOP)[frames // 2].square().sum().backward()
    per_frame = latents.grad[0].abs().sum(-1)
    if decoder.context_frames is None:
        assert (per_frame > 0).all()
    else:
        (before, after), context = found_context(per_frame), decoder.context_frames
        assert before <= context.before and after <= context.after
        if not kwargs.get("excitation_hz"):  # the source is not differentiated
            assert (before, after) == context


@pytest.mark.parametrize("registry", [ENCODERS, DECODERS], ids=["encoders", "decoders"])
def test_look_ahead_is_what_is_asked_for(registry: dict):
    name = "stft" if registry is ENCODERS else "vocos"
    symmetric = build(registry, name, {}).context_frames
    assert symmetric.before == symmetric.after
    most = symmetric.after if name == "stft" else symmetric.after - 1  # frames of audio begin one hop before their own
    for frames in range(most + 1):
        context = build(registry, name, {"look_ahead": frames}).context_frames
        assert context.after == frames and symmetric.size - context.size in (0, 1)  # the windows are 3 hops and a hop
    for frames in (-1, most + 1):
        with pytest.raises(ValueError, match=f"look_ahead must be None or within 0 and {most} .* {frames}"):
            build(registry, name, {"look_ahead": frames})
    assert "look_ahead" not in registry.resolve(name, {"look_ahead": None})
    assert registry.resolve(name, {"look_ahead": 0})["look_ahead"] == 0


def test_attention_refuses_a_look_ahead():
    with pytest.raises(ValueError, match="attention sees the whole recording, so look_ahead must be None, got 2"):
        build(DECODERS, "vocos", {"attention": True, "look_ahead": 2})


def test_pulses_come_late_only_where_the_look_ahead_is_too_short():
    late = {}
    for frames in range(8):
        windows = place_windows(4 * HOP, HOP, True, frames)
        late[frames] = 3 - (windows.samples_before + windows.source_after) / HOP  # hops
        assert windows.look_ahead <= frames
    assert late == {0: 3, 1: 2, 2: 1, 3: 0, 4: 0, 5: 0, 6: 0, 7: 0}
    assert place_windows(4 * HOP, HOP, True) == (1.5 * HOP, 1.5 * HOP, 6)  # centred


@pytest.mark.parametrize("look_aheads", [(9, 0), (9, 4), (2, 7), (0, 9)])
def test_kernels_keep_the_time_of_their_taps(look_aheads: tuple[int, int]):
    source, target = (ConvNeXtBackbone(3, 6, 2, 12, 7, frames) for frames in look_aheads)
    for (conv, context), (other, other_context) in zip(source._convolutions(), target._convolutions(), strict=True):
        nn.init.normal_(conv.weight)
        kernel = conv.weight.detach().clone()
        target.take_kernels(source)
        for tap in range(7):
            place = tap - context.before + other_context.before
            if 0 <= place < 6:
                assert torch.equal(other.weight[..., place], kernel[..., tap])
        if context.after >= other_context.after:
            assert torch.allclose(other.weight.sum(-1), kernel.sum(-1), atol=1e-5)


def test_excitation_has_the_harmonics_of_the_lower_band_at_the_level_of_its_gains():
    rate, hop, n_fft, pitch, frames = 24000, 320, 1280, 300, 40
    head = ExcitedIstftHead(4, n_fft, hop, place_windows(n_fft, hop, True), cutoff=1200 / rate)
    low = 0.1 * torch.sin(2 * torch.pi * pitch * torch.arange(frames * hop) / rate)

    def excited(low: torch.Tensor, gain: float) -> torch.Tensor:
        windows = frame_signal(low.unsqueeze(0), n_fft, hop) * head.window
        parts = [windows, torch.zeros(1, frames, n_fft + 2), torch.full((1, frames, head.num_bands), gain)]
        return head._overlap(head._excite(torch.cat(parts, dim=-1), None), None).flatten()[4000:-4000]

    audio = excited(low, 1.0)
    power = torch.fft.rfft(audio * torch.hann_window(len(audio))).abs().square()
    hertz = torch.arange(len(power)) * rate / len(audio)
    distance = (hertz - pitch * (hertz / pitch).round()).abs()
    upper = (hertz > 2000) & (hertz < 8000)
    assert power[upper & (distance < 20)].sum() > 30 * power[upper & (distance > 60)].sum()
    assert power[upper].sum() > power[~upper].sum() / 10  # the source is flat, though a tone has no upper band
    assert torch.allclose(excited(0.1 * low, 0.5), 0.5 * audio, atol=1e-4 * audio.abs().max())
    assert excited(1e-7 * low, 1.0).abs().max() < 1e-3 * audio.abs().max()  # silence has none


@pytest.mark.parametrize("size", [(6, 1), (6, 3), (9, 7)])
@pytest.mark.parametrize("frames", [1, 4, 30])
def test_convnext_block_is_the_sum_its_docstring_says(size: tuple[int, int], frames: int):
    block = ConvNeXtBlock(size[0], 2 * size[0], size[1], 0.5)
    nn.init.normal_(block.depthwise.bias)
    x = torch.randn(2, frames, size[0])
    y = block.norm(block.depthwise(x.transpose(1, 2)).transpose(1, 2))
    expected = x + block.scale * block.contract(nn.functional.gelu(block.expand(y)))
    assert torch.allclose(block(x), expected, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(block(x), expected, atol=0.1)
    assert torch.allclose(block.bfloat16()(x.bfloat16()).float(), expected, atol=0.2)


@pytest.mark.parametrize(("frame_length", "hop"), [(4, 4), (8, 4), (12, 4), (20, 5), (9, 3)])
def test_overlap_add_of_frames_counts_every_sample(frame_length: int, hop: int):
    audio = torch.randn(2, 7 * hop)
    frames = frame_signal(audio, frame_length, hop)
    assert frames.shape == (2, 7, frame_length)
    counts = overlap_add(torch.ones_like(frames), hop)
    assert torch.allclose(overlap_add(frames, hop), counts * audio, atol=1e-5)
    assert counts.max() == frame_length // hop


MEL_SETTINGS = [  # frequencies, bands, highest, rate
    (641, 100, 12000.0, 24000),
    (201, 80, 8000.0, 16000),
    (65, 5, 11025 / 2, 11025),
    (33, 40, 900.0, 8000),
    (41, 6, 12000, 24000),
]


@pytest.mark.skipif(mel_filter_bank is None, reason="transformers has no mel filters any more")
@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")
@pytest.mark.parametrize("settings", MEL_SETTINGS)
@pytest.mark.parametrize("equal_areas", [False, True])
def test_mel_filters_are_those_of_transformers(settings: tuple, equal_areas: bool):
    num_bins, num_bands, highest, rate = settings
    norm = "slaney" if equal_areas else None
    expected = mel_filter_bank(num_bins, num_bands, 0.0, highest, rate, norm=norm, mel_scale="slaney")
    found = mel_filters(*settings, equal_areas=equal_areas)
    assert found.dtype == np.float64 and np.allclose(found, expected, rtol=1e-14, atol=1e-16)
    assert np.array_equal(found.astype(np.float32), expected.astype(np.float32))


def test_mel_filters_are_those_of_the_bundled_weights():
    stored = load_file(Path(default_checkpoint()) / "model.safetensors")["encoder.mel_filters"]
    assert torch.equal(torch.tensor(mel_filters(641, 100, 12000.0, 24000), dtype=torch.float32), stored)


def test_mel_filters_have_the_corners_of_the_slaney_scale():
    # Two bands up to 1 kHz meet every 1000 / 3 Hz; with equal areas a triangle of that base has the height 3 / 1000.
    filters = mel_filters(9001, 2, 1000.0, 18000)
    assert filters.argmax(0).tolist() == pytest.approx([1000 / 3, 2000 / 3], abs=1)
    assert filters.max(0) == pytest.approx([1, 1], abs=2e-3) and np.flatnonzero(filters[:, 1])[-1] == 999
    assert mel_filters(9001, 2, 1000.0, 18000, equal_areas=True).sum(0) == pytest.approx([1, 1], abs=1e-3)


@pytest.mark.parametrize("registry", [ENCODERS, DECODERS], ids=["encoders", "decoders"])
class TestRegistry:
    """What holds for every registry of parts."""

    def test_unknown_name_lists_the_known_ones(self, registry):
        with pytest.raises(ValueError, match=rf"{registry.kind} must be one of .*{min(registry)}.*got 'wavenet'"):
            registry.resolve("wavenet", {})

    def test_unknown_argument_lists_the_known_ones(self, registry):
        for name in registry:
            with pytest.raises(ValueError, match=rf"{name}' takes \[.*\], got unknown \['dephts'\]"):
                registry.resolve(name, {"dephts": 3})

    def test_arguments_are_completed_with_defaults(self, registry):
        for name in registry:
            defaults = registry.resolve(name, {})
            first = min(defaults)
            other = not defaults[first] if isinstance(defaults[first], bool) else 17
            assert registry.resolve(name, {first: other}) == {**defaults, first: other}


@pytest.mark.parametrize(("kwargs", "message"), [({"kernel_size": 6}, "odd"), ({"n_fft": 100}, "hop length, 320")])
def test_stft_encoder_refuses_what_would_skip_samples_or_frames(kwargs: dict, message: str):
    with pytest.raises(ValueError, match=message):
        ENCODERS["stft"](Q2D2Config(), **kwargs)
