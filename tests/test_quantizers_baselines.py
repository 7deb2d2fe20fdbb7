"""Quantizers of other codecs: equal to a well-kept library, learn as they should, and work in the model and trainer."""

import json
import math

import pytest
import soundfile
import torch
from test_quantizers import BASELINES, PLAIN, latents, make_quantizer
from torch import Tensor, nn
from transformers import AutoModel
from transformers.modeling_utils import local_torch_dtype

from q2d2_tokenizer import Q2D2Config, Q2D2Model, default_checkpoint, lattices
from q2d2_tokenizer.quantizers_baselines import MovingCodebook, nearest_entries
from q2d2_tokenizer.training.codec import CodecTrainer, TrainConfig


def bare(channels: int, **settings) -> nn.Module:
    """A quantizer of latents that are the vectors themselves."""
    module = make_quantizer(channels, **PLAIN | settings)
    module.project_in = module.project_out = nn.Identity()
    return module


def library():
    """The library to compare with."""
    return pytest.importorskip("vector_quantize_pytorch", reason="needs the extra `dev`")


@pytest.mark.parametrize("levels", [[8, 5, 5, 5], [4, 4, 6], [7, 9, 3]])
def test_fsq_is_that_of_the_library(levels: list[int]):
    z = latents(hidden_size=len(levels))
    expected, codes = library().FSQ(levels)(z)
    found, found_codes = bare(len(levels), quantizer="fsq", levels=levels)(z)
    assert torch.allclose(found, expected, atol=1e-6) and torch.equal(found_codes, codes.long())


@pytest.mark.parametrize("levels", [[8, 5, 5, 5], [2, 4, 6], [7, 9, 3]])
def test_symmetric_fsq_of_the_library_is_a_rectangle(levels: list[int]):
    z = latents(hidden_size=len(levels))
    expected, codes = library().FSQ(levels, preserve_symmetry=True)(z)
    found, found_codes = bare(len(levels), levels=levels)(z)
    assert torch.allclose(found, expected, atol=1e-6) and torch.equal(found_codes, codes.long())


def test_vq_is_that_of_the_library():
    z, other = latents(hidden_size=8), library().VectorQuantize(dim=8, codebook_size=300).eval()
    module = bare(8, quantizer="vq", levels=[300])
    other._codebook.embed.data.copy_(module.codebooks[0].entries)
    expected, codes, _ = other(z)
    assert torch.equal(module(z)[1], codes) and torch.allclose(module(z)[0], expected, atol=1e-6)


@pytest.mark.parametrize("depth", [2, 4])
def test_residual_vq_is_that_of_the_library(depth: int):
    z, other = latents(hidden_size=8), library().ResidualVQ(dim=8, codebook_size=50, num_quantizers=depth).eval()
    module = bare(8, quantizer="residual_vq", levels=[50] * depth)
    for layer, book in zip(other.layers, module.codebooks, strict=True):
        layer._codebook.embed.data.copy_(book.entries)
    expected, indices, _ = other(z)
    quantized, codes = module(z)
    assert torch.equal(module.codes_to_indices(codes), indices) and torch.allclose(quantized, expected, atol=1e-5)
    errors = [(z - sum(module._looked_up(indices)[:n])).square().mean() for n in range(depth + 1)]
    assert all(finer < coarser for coarser, finer in zip(errors, errors[1:], strict=False))


def test_sim_vq_is_that_of_the_library():
    z, other = latents(hidden_size=8), library().SimVQ(dim=8, codebook_size=300, rotation_trick=False)
    module = bare(8, quantizer="sim_vq", levels=[300])
    other.frozen_codebook.copy_(module.directions)
    module.transform.data.copy_(other.code_transform.weight.T)
    expected, codes, loss = other(z)
    assert torch.equal(module(z)[1], codes) and torch.allclose(module(z)[0], expected, atol=1e-6)
    assert module._loss(z, module._search(z)[0]).item() == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["lfq", "bsq"])
def test_signs_are_those_of_the_library(name: str):
    z = 0.05 * latents(hidden_size=10)  # small, so that the signs of some are uncertain
    other = library().LFQ(dim=10, codebook_size=1024, spherical=name == "bsq")
    module = bare(10, quantizer=name, levels=[2] * 10)
    expected, codes, _ = other.eval()(z)
    assert torch.allclose(module(z)[0], expected, atol=1e-6)
    assert torch.equal((module.codes_to_indices(module(z)[1]) * 2 ** torch.arange(9, -1, -1)).sum(-1), codes)
    breakdown = other.train()(z, return_loss_breakdown=True)[1]
    of_vectors, of_batch = module.entropies(module._vectors(z))
    assert of_vectors.item() == pytest.approx(breakdown.per_sample_entropy.item(), abs=0.01) and of_vectors > 0.05
    assert breakdown.batch_entropy.item() <= of_batch.item() + 0.01 <= 10 * math.log(2) + 0.02


@pytest.mark.parametrize("level", [4, 7, 8])
def test_usual_fsq_leans_and_a_rectangle_does_not(level: int):
    z = torch.randn(1, 100_000, 1, generator=torch.Generator().manual_seed(0))
    means, ends = {}, {}
    for name in ("fsq", "lattice"):
        module = bare(1, quantizer=name, levels=[level])
        means[name] = module.decode(torch.arange(level).unsqueeze(0)).mean().item()
        counts = torch.bincount(module.encode(z).flatten(), minlength=level)
        ends[name] = (counts[-1] / counts[0]).item()
    is_even = level % 2 == 0
    assert means["lattice"] == pytest.approx(0, abs=1e-6) and ends["lattice"] == pytest.approx(1, abs=0.1)
    half_a_cell = 0.5 / (level // 2)
    assert means["fsq"] == pytest.approx(-half_a_cell if is_even else 0, abs=1e-6)
    assert (ends["fsq"] > 1.3) == is_even


def test_the_bound_of_ifsq_is_its_formula():
    z = latents(hidden_size=2)
    module = bare(2, levels=[9, 8], quantizer_kwargs={"bound": "ifsq"})
    expected = (2 * torch.sigmoid(1.6 * z) - 1) * torch.tensor([4.0, 3.5])
    assert torch.allclose(module._bound(z), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "levels", "cell"),
    [
        ("rectangle", [7], 1.0),
        ("rectangle", [4, 9], 1.0),
        ("rhombic", [9, 6], 0.5),
        ("hexagon", [9, 8], math.sqrt(0.75)),
        ("brick", [7, 7], 1.0),
        ("bcc", [5, 4, 6], 0.5),
    ],
)
def test_cells_fill_the_box_with_the_border_inside(name: str, levels: list[int], cell: float):
    settings = {"lattice": name, "levels": levels, "group_size": len(levels)}
    module = bare(len(levels), **settings, quantizer_kwargs={"border": "inside"})
    half_width = module.lattices.half_width
    assert half_width.mul(2).prod().item() == pytest.approx(cell * module.codebook_size, rel=1e-5)
    room = half_width - torch.tensor(lattices.half_widths(levels))
    assert torch.allclose(room, room[0]) and room[0] > 0
    if name == "rectangle":
        assert room[0].item() == pytest.approx(0.5)
    assert (module(100 * torch.randn(1, 500, len(levels)))[0].abs().amax() < 1) and bare(len(levels), **settings)(
        torch.full((1, 1, len(levels)), 100.0)
    )[0].max() <= 1


def test_border_of_weights_and_config_must_agree():
    inside = make_quantizer(quantizer_kwargs={"border": "inside"})
    with pytest.raises(ValueError, match="border 'edge'"):
        make_quantizer().load_state_dict(inside.state_dict())


def clusters(count: int, spread: float = 0.1) -> tuple[Tensor, Tensor]:
    """Means (6, 2) and vectors (count, 2) around them."""
    means = 3 * torch.randn(6, 2)
    return means, means[torch.arange(count) % 6] + spread * torch.randn(count, 2)


def test_a_codebook_begins_with_kmeans():
    means, vectors = clusters(600)
    book = MovingCodebook(12, 2, decay=0.99, revive_below=0.1)
    book.begin(vectors)
    picked = vectors[torch.randperm(600)[:12]]
    error, of_picked = ((vectors - e[nearest_entries(vectors, e)[0]]).square().mean() for e in (book.entries, picked))
    assert error < 0.7 * of_picked
    assert torch.cdist(means, book.entries).amin(-1).max() < 0.3
    assert 0.1 * 50 <= book.counts.min() and book.counts.max() <= 50


def test_more_entries_than_vectors_begin_apart():
    _, vectors = clusters(30)
    book = MovingCodebook(100, 2, decay=0.99, revive_below=0.1)
    book.begin(vectors)
    assert len(book.entries.unique(dim=0)) == 100


def test_entries_follow_as_a_moving_mean():
    book = MovingCodebook(3, 2, decay=0.75, revive_below=0.0)
    entries, counts = torch.randn(3, 2), torch.tensor([4.0, 2.0, 1.0])
    book.entries.copy_(entries)
    book.counts.copy_(counts)
    vectors, indices = torch.randn(5, 2), torch.tensor([0, 0, 0, 1, 1])
    book.follow(vectors, indices)
    used = torch.tensor([3.0, 2.0, 0.0])
    sums = torch.stack([vectors[:3].sum(0), vectors[3:].sum(0), torch.zeros(2)])
    expected_counts = 0.75 * counts + 0.25 * used
    expected = (0.75 * counts.unsqueeze(1) * entries + 0.25 * sums) / expected_counts.unsqueeze(1)
    assert torch.allclose(book.counts, expected_counts) and torch.allclose(book.entries, expected, atol=1e-6)


def test_dead_entries_are_revived_and_all_come_to_be_used():
    _, vectors = clusters(600)
    book = MovingCodebook(12, 2, decay=0.9, revive_below=0.1)
    book.entries.add_(100)  # all but one are far from being the nearest
    for _ in range(100):
        book.follow(vectors, nearest_entries(vectors, book.entries)[0])
    assert len(nearest_entries(vectors, book.entries)[0].unique()) == 12
    assert book.counts.mean().item() < 2 * 50  # revival does not make the counts grow without end


def follow_in_processes(rank: int, folder: str) -> None:
    """Move a codebook by half of the vectors, as one of two processes."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.manual_seed(rank)  # processes draw other numbers
    vectors = torch.load(f"{folder}/vectors.pt").chunk(2)[rank]
    book = MovingCodebook(12, 2, decay=0.9, revive_below=0.1)
    book.begin(vectors)
    begun = book.entries.clone()
    for _ in range(3):
        book.follow(vectors, nearest_entries(vectors, book.entries)[0])
    torch.save((begun, book.entries, book.counts), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_have_one_codebook_that_follows_the_vectors_of_all(tmp_path):
    torch.save(clusters(600)[1], tmp_path / "vectors.pt")
    torch.multiprocessing.spawn(follow_in_processes, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[1]) and first[2].sum() > 250  # counts near those of both, not of one


def test_learning_lowers_the_loss_of_vectors():
    for name in ("vq", "residual_vq", "pq", "sim_vq"):
        module, z = make_quantizer(quantizer=name, levels=BASELINES[name], **PLAIN), latents(8, 100)
        optimizer = torch.optim.Adam([p for p in module.parameters() if p.dim() == 2], 3e-3)

        def error() -> float:
            vectors = module._vectors(z)  # noqa: B023
            distance = (vectors - module._entries(module._search(vectors)[0])).square().sum()  # noqa: B023
            return (distance / vectors.var((0, 1)).sum()).item()

        before = error()
        for _ in range(30):
            _, _, loss = module.learn(z)
            if loss is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        assert error() < 0.8 * before, name


VQ = {"quantizer": "vq", "levels": [9], **PLAIN}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quantizer": "pq", "levels": [100, 100]}, "takes levels one by one: set lattice='rectangle' and group_size"),
        ({"quantizer": "vq", "levels": [9, 9], **PLAIN}, r"one codebook, got the sizes \[9, 9\]; see `residual_vq`"),
        ({"quantizer": "sim_vq", "levels": [9, 9], **PLAIN}, "one codebook"),
        ({"quantizer": "lfq", "levels": [2, 3], **PLAIN}, r"'lfq' has two levels a channel, got \[2, 3\]"),
        ({"quantizer": "fsq", "levels": [2, 3], **PLAIN}, r"levels of at least 3, got \[2, 3\]"),
        ({"quantizer_kwargs": {"bound": "clip"}}, r"bound must be one of \['ifsq', 'tanh'\], got 'clip'"),
        ({"quantizer_kwargs": {"border": "out"}}, r"border must be one of \['edge', 'inside'\], got 'out'"),
        ({"quantizer_kwargs": {"border": "inside", "size": 3}}, r"'lattice' takes \[.*\], got unknown \['size'\]"),
        ({"quantizer_kwargs": {"rotation": "no"}}, "rotation of quantizer 'lattice' must be bool, got 'no'"),
        (VQ | {"quantizer_kwargs": {"channels": 0}}, "positive number of channels, got 0"),
        *((VQ | {"quantizer_kwargs": {"channels": n}}, f"channels .* must be int, got {n!r}") for n in (2.5, "8")),
        *((VQ | {"quantizer_kwargs": {"decay": x}}, f"decay must be .* below 1, got {x!r}") for x in (1.0, -1)),
        (VQ | {"quantizer_kwargs": {"decay": "x"}}, "decay of quantizer 'vq' must be float, got 'x'"),
        (VQ | {"quantizer_kwargs": {"revive_below": 0.5}}, "revive_below must be .* below 0.3679, got 0.5"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Q2D2Model(Q2D2Config(**settings))


def make_model(config: Q2D2Config, **settings) -> Q2D2Model:
    """The tiny codec with another quantizer, and random weights that use many codes."""
    model = Q2D2Model(Q2D2Config.from_dict(config.to_dict() | settings)).eval()
    torch.nn.init.normal_(model.quantizer.project_in.weight, std=0.3)
    return model


SETTINGS = [pytest.param({"quantizer": n, "levels": levels, **PLAIN}, id=n) for n, levels in BASELINES.items()]
SETTINGS += [pytest.param({"quantizer_kwargs": {"bound": "ifsq", "border": "inside", "rotation": True}}, id="options")]


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_saved_codec_has_the_same_tokens_in_chunks_too(settings: dict, tiny_config, speech_like, tmp_path):
    model, audio = make_model(tiny_config, **settings), torch.from_numpy(speech_like(20_000)).view(1, 1, -1)
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    codes = loaded.encode(audio).audio_codes
    assert torch.equal(codes, model.encode(audio).audio_codes) and len(codes.unique()) > 10
    assert loaded.fingerprint() == model.fingerprint() != make_model(tiny_config).fingerprint()
    assert loaded.config.to_dict()["quantizer"] == model.config.quantizer
    assert loaded.decode(codes, num_samples=20_000).audio_values.isfinite().all()
    cache, parts = None, []
    for chunk in audio.split(3001, dim=-1):
        output = loaded.encode(chunk, cache=cache, use_streaming=True)
        cache = output.cache
        parts.append(output.audio_codes)
    parts.append(loaded.encode(audio[..., :0], cache=cache).audio_codes)
    assert torch.equal(torch.cat(parts, dim=-1), codes)


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_default_dtype_changes_nothing(settings: dict, tiny_config):
    model, codes = make_model(tiny_config, **settings), torch.arange(8).view(1, 1, 8)
    expected = model.decode(codes).audio_values
    for dtype in (torch.bfloat16, torch.float64):
        with local_torch_dtype(dtype):
            assert torch.equal(model.decode(codes).audio_values, expected)


def test_options_that_are_not_set_are_not_written(tiny_config, tmp_path):
    bundled = Q2D2Config.from_pretrained(default_checkpoint())
    assert bundled.quantizer_kwargs == {}
    for config in (bundled, Q2D2Model(tiny_config).config):
        config.save_pretrained(tmp_path)
        assert "quantizer_kwargs" not in json.loads((tmp_path / "config.json").read_text())
        assert "quantizer_kwargs" not in config.settings_of_tokens
    inside = Q2D2Config(quantizer_kwargs={"border": "inside"})
    inside.save_pretrained(tmp_path)
    assert Q2D2Config.from_pretrained(tmp_path).quantizer_kwargs == {"border": "inside"}
    assert inside.settings_of_tokens["quantizer_kwargs"] == {"border": "inside"}


@pytest.mark.parametrize("name", ["vq", "pq", "lfq"])
def test_training_moves_codebooks_and_resumes_to_the_bit(name: str, tiny_config, speech_like, tmp_path):
    soundfile.write(tmp_path / "a.wav", speech_like(60_000), 24_000)
    settings = {"quantizer": name, "levels": BASELINES[name], **PLAIN}
    Q2D2Config.from_dict(tiny_config.to_dict() | settings).to_json_file(tmp_path / "codec.json")

    def train(folder: str, **changes) -> Q2D2Model:
        values = {"steps": 4, "warmup_steps": 1, "decay_steps": 4, "batch_size": 2, "segment_frames": 20}
        values |= {"mel_n_ffts": [512], "mel_bands": [40], "loudness_weight": 0.0, "log_every": 1, "save_every": 2}
        config = TrainConfig(
            data=[str(tmp_path / "a.wav")],
            output=str(tmp_path / folder),
            codec=str(tmp_path / "codec.json"),
            **values | changes,
        )
        trainer = CodecTrainer(config)
        trainer.run()
        return trainer.codec

    whole = train("whole")
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert all(("quantizer" in line) == (name != "pq") for line in lines)  # a loss that is not finite stops the run
    train("parts", max_minutes=1e-9)  # stops after a step
    resumed = train("parts").state_dict()
    for key, tensor in whole.state_dict().items():
        assert torch.equal(resumed[key], tensor), key
    if name != "lfq":
        assert whole.quantizer.codebooks[0].has_begun
