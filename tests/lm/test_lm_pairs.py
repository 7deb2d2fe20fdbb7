"""Pair tokens: exact probabilities, few rows, sampling that follows them, cache, files, and bad input."""

import json
import math

import pytest
import torch
from language_models import CODES, GROUPS, TINY
from test_lm_training import tiny_scorer
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, GenerationConfig

from lm.layout import AUDIO, BOS, EOS, PAD, Layout, codes_to_indices
from lm.model import IGNORED, LanguageModel, ModelSettings, make_language_model
from lm.pairs import JointHead, PairLlamaForCausalLM
from lm.scoring import Scorer

OFFSET = 4  # of the first code, after the specials


def all_probabilities(scorer: Scorer, context: list[int]) -> torch.Tensor:
    """Probabilities (1 + CODES,) of `<eos>` and of every code after a context."""
    ids = torch.tensor([EOS, *range(OFFSET, OFFSET + CODES)])
    targets = torch.full((len(ids), len(context)), IGNORED)
    targets[:, -1] = ids
    with torch.no_grad():
        return scorer(torch.tensor([context]).expand(len(ids), -1), targets).neg().exp()


@pytest.mark.parametrize("tied", [True, False])
def test_probabilities_of_all_codes_and_the_end_add_up_to_one(tied):
    probabilities = all_probabilities(tiny_scorer("pairs", tie_embeddings=tied), [BOS, AUDIO, 9, 40])
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-5)
    assert probabilities.max() > 3 * probabilities.min() > 0


def test_a_later_index_depends_on_the_earlier_one():
    table = all_probabilities(tiny_scorer("pairs"), [BOS, AUDIO, 9])[1:].view(GROUPS[::-1])  # (10, 5)
    given_first = table / table.sum(0)
    assert (given_first[:, 0] - given_first[:, 1]).abs().max() > 0.05


@torch.no_grad()
def test_probabilities_of_all_codes_at_once_are_the_chain():
    scorer = tiny_scorer("pairs")
    ids = torch.tensor([[BOS, AUDIO, 9, 40], [BOS, AUDIO, 7, 7]])
    at_once = JointHead(scorer.model)(scorer.model(ids).last_hidden_state[:, -1]).exp()
    for row, context in zip(at_once, ids.tolist(), strict=True):
        expected = all_probabilities(scorer, context)
        assert torch.allclose(row, expected, atol=1e-6)
    scorer.model.config.points_per_group = (85, 85, 145)
    with pytest.raises(ValueError, match="1,047,625 codes are too many"):
        JointHead(scorer.model)


@pytest.mark.parametrize("tied", [True, False])
def test_a_million_codes_take_a_few_hundred_rows(tied):
    layout = Layout(145 * 85 * 85, 24000, "codec-a", points_per_group=(145, 85, 85))
    settings = ModelSettings(**TINY | {"tie_embeddings": tied, "audio_head": "pairs"})
    with torch.device("meta"):
        model = make_language_model(settings, layout)
    width = settings.hidden_size
    tables = [weight for weight in model.parameters() if weight.shape[-1] == width and weight.shape[0] not in (32, 64)]
    rows = sum(len(weight) for weight in tables if weight.ndim == 2)
    assert rows == 4 + 315 + (0 if tied else 316)
    body = sum(weight.numel() for weight in model.model.layers.parameters())
    assert model.num_parameters() == body + (rows + 1) * width + 2 * (3 * width**2 + width)


@torch.no_grad()
def test_a_code_is_the_sum_of_its_points():
    model = tiny_scorer("pairs").model
    code = 3 + 5 * 7
    expected = model.point_embedding.weight[3] + model.point_embedding.weight[5 + 7]
    embedded = model.embed(torch.tensor([AUDIO, OFFSET + code]))
    assert torch.allclose(embedded, torch.stack([model.model.embed_tokens.weight[AUDIO], expected]))


def test_samples_follow_the_probabilities():
    scorer = tiny_scorer("pairs")
    expected = all_probabilities(scorer, [BOS, AUDIO, 9])
    prompts = torch.tensor([[BOS, AUDIO, 9]]).expand(4000, -1)

    def distance(**settings) -> float:
        generator = torch.Generator().manual_seed(0)
        new = scorer.model.generate(prompts, max_new_tokens=1, generator=generator, **settings)[:, -1]
        found = torch.bincount(torch.where(new == EOS, 0, new - OFFSET + 1), minlength=1 + CODES) / len(new)
        return (found - expected).abs().sum().item() / 2

    assert distance() < 0.06  # sampling noise is about 0.03
    assert distance(temperature=0.5) > 0.15
    assert distance(top_p=0.5) > 0.15


def test_the_cache_changes_nothing_and_neither_does_padding():
    model = tiny_scorer("pairs").model
    prompts = [[BOS, AUDIO, 9, 40, 11], [BOS, AUDIO, 30]]
    padded = torch.tensor([prompts[0], [PAD, PAD, *prompts[1]]])
    together = model.generate(padded, (padded != PAD).long(), max_new_tokens=12, do_sample=False)
    for row, prompt in zip(together, prompts, strict=True):
        alone = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0].tolist()
        assert row[row != PAD].tolist() == alone
        ids = list(prompt)
        while len(ids) < len(alone):
            hidden = model(torch.tensor([ids]), use_cache=False).last_hidden_state[:, -1]
            first = model.factor_logits(hidden, []).argmax(-1)
            second = model.factor_logits(hidden, [(first - 1).clamp_min(0)]).argmax(-1)
            ids.append(EOS if first == 0 else OFFSET + int(first - 1 + GROUPS[0] * second))
        assert ids == alone
        assert len(alone) > len(prompt) + 3


def test_rows_end_one_by_one_and_the_seed_decides():
    model = tiny_scorer("pairs").model
    prompts = torch.tensor([[BOS, AUDIO]]).expand(20, -1)
    one, two, other = (
        model.generate(prompts, max_new_tokens=40, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(one, two) and not torch.equal(one[:, :10], other[:, :10])
    ends = (one == EOS).sum(1)
    assert ends.max() == 1 and 0 < ends.sum()
    for row in one[ends > 0]:
        after = row[int((row == EOS).nonzero()) + 1 :]
        assert (after == PAD).all()
    codes = one[(one >= OFFSET)] - OFFSET
    assert codes.max() < CODES and len(codes_to_indices(codes, GROUPS)[0].unique()) > 1


def test_saved_and_loaded(tmp_path):
    scorer = tiny_scorer("pairs", tie_embeddings=False)
    layout = Layout(CODES, 24000, "codec-a", points_per_group=GROUPS)
    LanguageModel(scorer.model, layout).save(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "pair_llama"
    loaded = LanguageModel.load(tmp_path, "codec-a")
    assert isinstance(loaded.model, PairLlamaForCausalLM) and loaded.layout.points_per_group == GROUPS
    prompt = torch.tensor([[BOS, AUDIO, 9]])
    for name, weight in scorer.model.state_dict().items():
        assert torch.equal(weight, loaded.model.state_dict()[name])
    pair = [m.generate(prompt, max_new_tokens=9, do_sample=False) for m in (scorer.model, loaded.model)]
    assert torch.equal(*pair)
    with pytest.raises(ValueError, match="'codec-b'.*'codec-a'"):
        LanguageModel.load(tmp_path, "codec-b")
    with pytest.raises(ValueError, match=r"groups of \(5, 10\).*\(10, 5\)"):
        LanguageModel(loaded.model, Layout(CODES, 24000, "codec-a", points_per_group=(10, 5)))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    with pytest.raises(ValueError, match="llama or pair_llama, got gpt2"):
        LanguageModel.load(tmp_path)


def test_auto_classes(tmp_path):
    model = tiny_scorer("pairs").model
    model.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is type(model.config)
    for auto in (AutoModel, AutoModelForCausalLM):
        loaded = auto.from_pretrained(tmp_path)
        assert type(loaded) is PairLlamaForCausalLM
        prompt = torch.tensor([[BOS, AUDIO, 9]])
        assert torch.equal(*(m.generate(prompt, max_new_tokens=9, do_sample=False) for m in (model, loaded)))


def test_a_generation_config_is_as_good_as_arguments_and_they_win():
    model = tiny_scorer("pairs").model
    prompts = torch.tensor([[BOS, AUDIO, 9]]).expand(50, -1)

    def generate(**options) -> torch.Tensor:
        return model.generate(prompts, generator=torch.Generator().manual_seed(0), **options)

    values = {"max_new_tokens": 5, "do_sample": True, "temperature": 0.7, "top_p": 0.8}
    config = GenerationConfig(**values, num_beams=1, eos_token_id=[EOS], pad_token_id=PAD)
    assert torch.equal(generate(generation_config=config), generate(**values))
    assert torch.equal(generate(generation_config=config, top_p=0.1), generate(**values | {"top_p": 0.1}))
    assert not torch.equal(generate(generation_config=config), generate(**values | {"top_p": 0.1}))
    greedy = generate(generation_config=GenerationConfig(max_length=8, do_sample=False))
    assert torch.equal(greedy, generate(max_new_tokens=5, do_sample=False))
    top_1 = GenerationConfig(max_new_tokens=5, do_sample=True, top_k=1)
    assert torch.equal(generate(generation_config=top_1), greedy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 4}, "num_beams=4"),
        ({"repetition_penalty": 1.2}, "repetition_penalty=1.2"),
        ({"suppress_tokens": [3]}, r"suppress_tokens=\[3\]"),
        ({"eos_token_id": 7}, "eos_token_id=7"),
        ({"num_return_sequences": 2, "num_beams": 2}, "num_beams=2, num_return_sequences=2"),
        ({"max_length": 3}, "max_length above the 3 of the prompt"),
    ],
)
def test_what_a_generation_config_asks_for_in_vain_is_named(options, message):
    model = tiny_scorer("pairs").model
    with pytest.raises(ValueError, match=message):
        model.generate(torch.tensor([[BOS, AUDIO, 9]]), generation_config=GenerationConfig(**options))


def test_bad_input_is_refused():
    model = tiny_scorer("pairs").model
    prompt = torch.tensor([[BOS, AUDIO, 9]])
    with pytest.raises(ValueError, match="do not fit the context of 64"):
        model.generate(prompt, max_new_tokens=62)
    for ids in (torch.tensor([[OFFSET + CODES]]), torch.tensor([[-1]]), prompt[:, :0]):
        with pytest.raises(ValueError, match=f"within 0 and {OFFSET + CODES - 1}"):
            model.generate(ids, max_new_tokens=1)
    with pytest.raises(ValueError, match="temperature"):
        model.generate(prompt, max_new_tokens=1, temperature=0.0)
    with pytest.raises(ValueError, match="top_p"):
        model.generate(prompt, max_new_tokens=1, top_p=2.0)
    with pytest.raises(ValueError, match="points_per_group.*tokenize again"):
        make_language_model(ModelSettings(**TINY, audio_head="pairs"), Layout(CODES, 24000, "codec-a"))
    with torch.no_grad():
        model.point_embedding.weight.fill_(math.nan)
    with pytest.raises(RuntimeError, match="not finite"):
        model.generate(prompt, max_new_tokens=1)
