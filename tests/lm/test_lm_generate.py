"""Generation: equal to transformers, to itself without cache and alone, what it allows, and how it ends."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from language_models import CODES, GROUPS, TINY
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lm.cache import CACHE_ARGUMENT, make_cache
from lm.generate import (
    ENDED,
    LOOPED,
    MAX_LENGTH,
    Generation,
    GenerationSettings,
    _without_text,
    choose,
    generate_codes,
    make_prompt,
)
from lm.layout import AUDIO, BOS, EOS, PAD, Layout
from lm.model import LanguageModel, ModelSettings, make_language_model
from lm.pairs import JointHead
from lm.steps import CachedSteps, PreparedLlama
from lm.text import train_text_tokenizer

GREEDY = GenerationSettings(temperature=0.0, max_codes=12)
TEXTS = ["hello there, general", "you are a bold one"]


def make_model(head: str = "flat", has_durations: bool = False) -> LanguageModel:
    """A tiny model with text, with weights large enough to tell tokens apart."""
    torch.manual_seed(0)
    text = train_text_tokenizer(TEXTS * 10, 40)
    durations = tuple(np.linspace(0.5, 4.0, text.size)) if has_durations else ()
    layout = Layout(CODES, 24000, "codec-a", text.size, text.fingerprint, GROUPS, durations)
    model = make_language_model(ModelSettings(**TINY, audio_head=head), layout).eval()
    for weight in model.parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=0.3)
    return LanguageModel(model, layout, text)


@pytest.fixture(scope="module")
def language_model() -> LanguageModel:
    """A stock Llama."""
    return make_model()


@pytest.fixture(scope="module", params=[("flat", False), ("flat", True), ("pairs", False), ("pairs", True)])
def any_model(request) -> LanguageModel:
    """Both heads, with both ways to place text."""
    return make_model(*request.param)


def prompts(language_model: LanguageModel) -> list[np.ndarray]:
    """Text alone, text in a voice, and speech alone: of different lengths."""
    codes = np.arange(9)
    return [
        make_prompt(language_model, TEXTS[0]),
        make_prompt(language_model, TEXTS[0], codes, TEXTS[1]),
        make_prompt(language_model, codes=codes[:2]),
    ]


def uncached_scores(
    language_model: LanguageModel, prompt: np.ndarray, codes: np.ndarray, num_spoken: int = 0
) -> torch.Tensor:
    """Log probabilities (T, 1 + CODES) of the end and all codes at the place of each code (T,) after a prompt."""
    model, layout = language_model.model, language_model.layout
    ids = torch.from_numpy(np.concatenate([prompt, layout.codes_to_ids(codes)]))[None]
    mask = torch.ones_like(ids)  # without it, transformers takes positions that start again for packed sequences
    positions = layout.position_ids(ids[:, : len(prompt)], torch.tensor([num_spoken]))  # by the codes of the prompt
    if positions is not None:
        positions = torch.cat([positions, positions[:, -1:] + 1 + torch.arange(len(codes))], dim=1)
    output = model(ids, mask, position_ids=positions, use_cache=False)
    if "logits" in output:
        scores = output.logits[0].log_softmax(-1)[:, [EOS, *range(layout.audio_offset, layout.vocab_size)]]
    else:
        scores = JointHead(model)(output.last_hidden_state[0])
    return scores[len(prompt) - 1 : -1]


def with_bias(language_model: LanguageModel, **biases: float) -> LanguageModel:
    """The same model with numbers added to the scores of ids."""
    model = make_language_model(ModelSettings(**TINY), language_model.layout).eval()
    model.load_state_dict(language_model.model.state_dict())

    def add(module, args, output):
        for name, value in biases.items():
            output[..., int(name[2:])] += value
        return output

    model.lm_head.register_forward_hook(add)
    return dataclasses.replace(language_model, model=model)


def test_a_model_of_speech_alone_leaves_no_text_tokenizer_of_the_one_before(language_model, tmp_path):
    language_model.save(tmp_path)
    layout = Layout(CODES, 24000, "codec-a")
    LanguageModel(make_language_model(ModelSettings(**TINY), layout), layout).save(tmp_path)
    assert LanguageModel.load(tmp_path, "codec-a").text is None


def test_prompts_are_laid_out_as_in_training(language_model):
    layout, text = language_model.layout, language_model.text
    ids = make_prompt(language_model, "You there", np.array([3, 4]), "hello")
    pieces = layout.pieces_to_ids(text.encode("hello you there")).tolist()
    assert ids.tolist() == [BOS, *pieces, AUDIO, layout.audio_offset + 3, layout.audio_offset + 4]
    assert make_prompt(language_model, codes=np.array([1])).tolist() == [BOS, AUDIO, layout.audio_offset + 1]


@pytest.mark.parametrize("has_durations", [False, True])
def test_greedy_codes_are_those_of_transformers(has_durations, tmp_path):
    language_model = make_model("flat", has_durations)
    language_model.save(tmp_path)
    stock = LlamaForCausalLM.from_pretrained(tmp_path).eval()
    for prompt in prompts(language_model):
        ids = torch.from_numpy(prompt)[None]
        positions = language_model.layout.position_ids(ids)
        placed = {} if positions is None else {"position_ids": positions}
        ids = stock.generate(ids, max_new_tokens=12, **placed)[0, len(prompt) :]
        (ours,) = generate_codes(language_model, [prompt], GREEDY)
        assert ours.codes.tolist() == language_model.layout.ids_to_codes(ids[ids != EOS]).tolist()


def test_a_stock_llama_generates_audio_alone_and_stops_at_the_context(language_model, tmp_path):
    likely_text = with_bias(language_model, id0=50.0, id3=50.0, id5=50.0)
    prompt = torch.from_numpy(make_prompt(language_model, TEXTS[0]))[None]
    assert language_model.model.generation_config.eos_token_id == EOS
    assert language_model.model.generation_config.pad_token_id == PAD
    ids = likely_text.model.generate(prompt, do_sample=True)
    assert ids.shape[1] <= TINY["context"]
    new = ids[0, prompt.shape[1] :]
    language_model.layout.ids_to_codes(new[new != EOS])  # raises for anything else


@torch.no_grad()
def test_cached_scores_are_those_without_a_cache(any_model):
    for prompt in prompts(any_model):
        (generated,) = generate_codes(any_model, [prompt], GREEDY)
        scores = uncached_scores(any_model, prompt, generated.codes)
        expected = scores[:, 1:].argmax(-1)
        assert len(generated.codes) and generated.codes.tolist() == expected.tolist()


@torch.no_grad()
@pytest.mark.parametrize("head", ["flat", "pairs"])
def test_the_text_of_a_voice_lies_on_its_codes(head):
    model, codes = make_model(head, has_durations=True), np.arange(9)
    prompt = make_prompt(model, TEXTS[0], codes, TEXTS[1])
    spoken = len(model.text.encode(TEXTS[1]))
    (generated,) = generate_codes(model, [prompt], GREEDY, [TEXTS[1]])
    for num_spoken in (0, spoken):
        scores = uncached_scores(model, prompt, generated.codes, num_spoken)[:, 1:]
        assert (scores.argmax(-1).tolist() == generated.codes.tolist()) == (num_spoken == spoken)


@torch.no_grad()
def test_guidance_moves_scores_away_from_those_without_the_text(any_model):
    scale, differ = 3.0, False

    def log_probs(prompt: np.ndarray, codes: np.ndarray) -> torch.Tensor:
        return uncached_scores(any_model, prompt, codes)[:, 1:]

    for prompt in prompts(any_model)[:2]:
        codes = generate_codes(any_model, [prompt], dataclasses.replace(GREEDY, guidance_scale=scale))[0].codes
        with_text, without = log_probs(prompt, codes), log_probs(_without_text(prompt), codes)
        assert codes.tolist() == (without + scale * (with_text - without)).argmax(-1).tolist()
        differ |= codes.tolist() != with_text.argmax(-1).tolist()
    assert differ


@torch.no_grad()
def test_the_candidate_is_kept_whose_codes_gain_most_from_the_text(any_model):
    settings = GenerationSettings(
        temperature=4.0, top_p=1.0, guidance_scale=1.5, candidates=3, max_codes=8, min_codes=8
    )
    texts = prompts(any_model)
    alone = dataclasses.replace(settings, candidates=1)
    kept = Generation(any_model, texts, settings)
    kept_codes = np.stack(list(kept), 1)
    (speech,) = generate_codes(any_model, texts[2:], dataclasses.replace(alone, seed=2))
    assert kept_codes[2].tolist() == speech.codes.tolist()  # there is no text to compare by

    def gain(prompt: np.ndarray, codes: np.ndarray) -> float:
        with_text, without = (uncached_scores(any_model, p, codes) for p in (prompt, _without_text(prompt)))
        return float((with_text - without)[:, 1:].gather(1, torch.from_numpy(codes)[:, None]).mean())

    for row, prompt in enumerate(texts[:2]):
        candidates = [
            generate_codes(any_model, [prompt], dataclasses.replace(alone, seed=row + 1_000_003 * i))[0].codes
            for i in range(3)
        ]
        assert len({tuple(codes) for codes in candidates}) > 1
        gains = [gain(prompt, codes) for codes in candidates]
        assert kept_codes[row].tolist() == candidates[int(np.argmax(gains))].tolist()
    assert kept.reasons == [MAX_LENGTH] * 3
    assert np.stack(list(kept), 1).tolist() == kept_codes.tolist()  # again
    with pytest.raises(ValueError, match="candidates"):
        GenerationSettings(candidates=2)


def test_candidates_that_ended_come_first_and_speech_without_text_has_but_one(language_model, monkeypatch):
    def run(generation):  # rows: text, speech, and once more
        generation._reasons, generation._gains = [MAX_LENGTH, MAX_LENGTH, ENDED, ENDED], [2.0, 0.0, 1.0, 0.0]
        yield np.array([10, 11, 12, 13])

    monkeypatch.setattr(Generation, "_run", run)
    settings = GenerationSettings(guidance_scale=2.0, candidates=2)
    generation = Generation(language_model, prompts(language_model)[::2], settings)
    assert [row.tolist() for row in generation] == [[12, 11]]
    assert generation.reasons == [ENDED, MAX_LENGTH]


def test_guidance_changes_nothing_without_text(language_model):
    speech = prompts(language_model)[2:]
    guided = generate_codes(language_model, speech, dataclasses.replace(GREEDY, guidance_scale=3.0))
    assert guided[0].codes.tolist() == generate_codes(language_model, speech, GREEDY)[0].codes.tolist()


@torch.no_grad()
def test_the_loop_of_pair_models_places_text_too():
    language_model = make_model("pairs", True)
    (prompt,) = prompts(language_model)[:1]
    ids = torch.from_numpy(prompt)[None]
    positions = language_model.layout.position_ids(ids)
    greedy = language_model.model.generate(ids, max_new_tokens=12, do_sample=False, position_ids=positions)
    positions = language_model.layout.position_ids(greedy)
    whole = language_model.model(greedy, torch.ones_like(greedy), position_ids=positions).last_hidden_state[0]
    first = language_model.model.factor_logits(whole[len(prompt) - 1 : -1], []).argmax(-1)
    new = greedy[0, len(prompt) :]
    points = torch.where(new == EOS, -1, (new - language_model.layout.audio_offset) % GROUPS[0])
    assert (first - 1).tolist() == points.tolist()


@torch.no_grad()
@pytest.mark.parametrize(
    "changes", [{}, {"num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True}, {"is_float16": True}]
)
def test_steps_are_those_of_transformers(changes):
    torch.manual_seed(0)
    is_float16 = changes.pop("is_float16", False)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=60, initializer_range=0.3, **sizes, **changes)).eval()
    for weight in model.parameters():
        weight.copy_(torch.randn_like(weight) * 0.3 if weight.ndim == 1 else weight)
        weight.copy_(weight.half() if is_float16 else weight)
    ids, starts = torch.randint(1, 60, (3, 20)), [0, 5, 8]
    mask = torch.arange(20) >= torch.tensor(starts)[:, None]
    positions = mask.cumsum(1) - 1
    expected = model.model(ids, mask.long(), position_ids=positions.clamp(min=0)).last_hidden_state
    llama = PreparedLlama(model, 10)
    steps = CachedSteps(llama, positions.clamp(min=0), starts)
    states = [steps.read(llama.embed(ids[:, :12])), *(steps.step(llama.embed(ids[:, i]), i) for i in range(12, 20))]
    assert torch.allclose(torch.stack(states, 1), expected[:, 11:], atol=1e-4)
    log_probs = model.lm_head(expected[:, -1]).log_softmax(-1)
    assert torch.allclose(llama.log_probs(states[-1])[:, 1:], log_probs[:, 10:], atol=1e-4)
    assert torch.equal(llama.embed_codes([3, 7]), model.model.embed_tokens.weight[[13, 17]])


def test_weights_may_change_between_generations(any_model):
    prompt = prompts(any_model)[:1]
    model = dataclasses.replace(any_model, model=copy.deepcopy(any_model.model))
    before = generate_codes(model, prompt, GREEDY)[0].codes
    assert model.prepared() is model.prepared()
    for weight in model.model.model.layers.parameters():
        weight.data.neg_()
    expected = generate_codes(dataclasses.replace(model), prompt, GREEDY)[0].codes
    after = generate_codes(model, prompt, GREEDY)[0].codes
    assert after.tolist() == expected.tolist() != before.tolist()


@pytest.mark.parametrize(
    "changes",
    [{"top_p": 1.0}, {"top_p": 0.8, "temperature": 0.7}, {"top_k": 9, "top_p": 0.7}, {"top_k": 9, "top_p": 1.0}],
)
def test_choices_follow_the_joint_probabilities(changes):
    torch.manual_seed(0)
    settings, scores = (
        GenerationSettings(**{"temperature": 1.0} | changes),
        torch.randn(1, 2000),
    )  # more than are sorted
    warpers = [TemperatureLogitsWarper(settings.temperature)]
    warpers += [TopKLogitsWarper(settings.top_k)] if settings.top_k else []
    warpers += [TopPLogitsWarper(settings.top_p)] if settings.top_p < 1 else []
    warped = scores
    for warp in warpers:
        warped = warp(None, warped)
    count = 20_000
    numbers = (np.arange(count) + 0.5) / count  # even, so that the counts are exact but for one
    chosen = torch.tensor([choose(scores, settings, [number])[0] for number in numbers])
    assert ((torch.bincount(chosen, minlength=2000) - count * warped.softmax(-1)[0]).abs() <= 1.01).all()


@torch.no_grad()
def test_sampled_codes_have_the_frequencies_of_the_model(any_model):
    settings = GenerationSettings(temperature=0.8, top_p=0.9, guidance_scale=1.5, max_codes=1)
    prompt = prompts(any_model)[0]
    with_text, without = (uncached_scores(any_model, p, np.array([0])) for p in (prompt, _without_text(prompt)))
    scores = without + 1.5 * (with_text - without)
    scores[:, 0] = -torch.inf  # the end is not allowed yet
    expected = TopPLogitsWarper(0.9)(None, scores / 0.8).softmax(-1)[0, 1:]
    codes = [row.codes[0] for row in generate_codes(any_model, [prompt] * 2000, settings)]
    found = torch.bincount(torch.tensor(codes), minlength=CODES) / len(codes)
    assert (found - expected).abs().sum() / 2 < 0.05  # sampling noise


def test_the_cache_grows_without_losing_anything(language_model):
    ids = torch.arange(4, 44)[None]
    model = language_model.model
    cache = make_cache(model.config)
    with torch.no_grad():
        whole = model(ids).logits
        parts = [model(part, **{CACHE_ARGUMENT: cache}).logits for part in ids.split([3, 1, 1, 20, 1, 14], dim=1)]
    assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-4)
    assert cache.get_seq_length() == 40


@pytest.mark.parametrize(
    "settings",
    [
        GREEDY,
        GenerationSettings(max_codes=12, repetition_penalty=0.3, seed=5),
        GenerationSettings(max_codes=12, guidance_scale=2.0, seed=5),
    ],
)
def test_a_row_of_a_batch_is_what_comes_alone(any_model, settings):
    rows = prompts(any_model)
    together = generate_codes(any_model, rows, settings)
    for number, (prompt, row) in enumerate(zip(rows, together, strict=True)):
        alone = dataclasses.replace(settings, seed=settings.seed + number)
        (expected,) = generate_codes(any_model, [prompt], alone)
        assert row.codes.tolist() == expected.codes.tolist() and row.reason == expected.reason


def test_codes_depend_on_the_seed_alone(language_model):
    prompt = prompts(language_model)[:1]
    settings = GenerationSettings(max_codes=20, seed=3)
    first = generate_codes(language_model, prompt, settings)[0].codes
    torch.manual_seed(99)
    torch.rand(5)
    assert generate_codes(language_model, prompt, settings)[0].codes.tolist() == first.tolist()
    other = generate_codes(language_model, prompt, dataclasses.replace(settings, seed=4))[0].codes
    assert other.tolist() != first.tolist()


def test_codes_come_one_by_one(language_model):
    generation = Generation(language_model, prompts(language_model)[:1], GREEDY)
    steps = iter(generation)
    first = [next(steps).item() for _ in range(3)]
    assert generation.reasons == [None]
    again = [step.item() for step in generation]  # from the beginning
    assert again[:3] == first and generation.reasons == [MAX_LENGTH]


def test_only_codes_come_whatever_the_model_prefers(language_model):
    wanted = with_bias(language_model, id0=90.0, id1=90.0, id3=90.0, id7=90.0)
    for settings in (GREEDY, GenerationSettings(max_codes=12)):
        for row in generate_codes(wanted, prompts(wanted), settings):
            assert 0 <= row.codes.min() and row.codes.max() < CODES


def test_the_end_comes_from_the_model_but_not_before_the_minimum(language_model):
    ends = with_bias(language_model, id2=100.0)
    settings = dataclasses.replace(GREEDY, min_codes=7)
    for row in generate_codes(ends, prompts(ends), settings):
        assert (len(row.codes), row.reason) == (7, ENDED)
    assert [len(row.codes) for row in generate_codes(ends, prompts(ends), GREEDY)] == [1, 1, 1]


def test_rows_end_at_the_maximum_or_at_the_context(language_model):
    endless = with_bias(language_model, id2=-100.0)
    rows = prompts(endless)
    for row in generate_codes(endless, rows, GREEDY):
        assert (len(row.codes), row.reason) == (12, MAX_LENGTH)
    long = dataclasses.replace(GREEDY, max_codes=10_000, loop_codes=0)
    for prompt, row in zip(rows, generate_codes(endless, rows, long), strict=True):
        assert (len(prompt) + len(row.codes), row.reason) == (TINY["context"], MAX_LENGTH)


def test_loops_are_found_and_the_penalty_breaks_them(language_model):
    stuck = with_bias(language_model, **{f"id{language_model.layout.audio_offset + 9}": 100.0})
    settings = dataclasses.replace(GREEDY, max_codes=40, loop_codes=16)
    row = generate_codes(stuck, prompts(stuck)[:1], settings)[0]
    assert (len(row.codes), row.reason) == (16, LOOPED)
    free = dataclasses.replace(settings, repetition_penalty=60.0, repetition_window=8)
    row = generate_codes(stuck, prompts(stuck)[:1], free)[0]
    assert row.reason != LOOPED and len(np.unique(row.codes)) > 4


def test_temperature_top_k_and_top_p_narrow_the_choice(language_model):
    prompt, scores = prompts(language_model)[0], torch.linspace(-2, 2, 1 + CODES)[None]

    def allowed(**changes) -> int:
        settings = GenerationSettings(**{"top_p": 1.0, "temperature": 0.7} | changes)
        return len({choose(scores, settings, [number])[0] for number in np.linspace(0, 1, 100_000, endpoint=False)})

    assert allowed() == 1 + CODES
    assert allowed(top_k=5) == 5
    assert allowed(top_p=1e-6) == 1 < allowed(top_p=0.5) < CODES
    assert allowed(top_p=0.5, temperature=0.2) < allowed(top_p=0.5)
    cold = GenerationSettings(temperature=1e-6, max_codes=12)
    greedy, sampled = (generate_codes(language_model, [prompt], s)[0].codes for s in (GREEDY, cold))
    assert greedy.tolist() == sampled.tolist()


def test_settings_come_from_a_generation_config_of_transformers_or_are_refused_by_name():
    values = {"temperature": 0.7, "top_k": 9, "top_p": 0.8, "guidance_scale": 2.0}
    config = GenerationConfig(do_sample=True, **values, min_new_tokens=3, max_new_tokens=40, eos_token_id=EOS)
    expected = GenerationSettings(**values, min_codes=3, max_codes=40, seed=5)
    assert GenerationSettings.from_generation_config(config, seed=5) == expected
    assert GenerationSettings.from_generation_config(GenerationConfig()) == GenerationSettings()
    assert GenerationSettings.from_generation_config(GenerationConfig(do_sample=False)).temperature == 0
    for refused in ({"num_beams": 2}, {"min_p": 0.1}, {"eos_token_id": EOS + 1}, {"max_length": 40}):
        with pytest.raises(ValueError, match="=".join(map(str, *refused.items()))):
            GenerationSettings.from_generation_config(GenerationConfig(**refused))


@pytest.mark.parametrize("text", ["", "  ", "🙂🙂", "你好", "!?"])
def test_a_text_with_nothing_to_read_is_refused(language_model, text):
    with pytest.raises(ValueError, match="nothing to read in the text"):
        make_prompt(language_model, text)


def test_what_can_be_read_is_read(language_model):
    assert make_prompt(language_model, "Hello 🙂 thére").tolist() == make_prompt(language_model, "hello there").tolist()


def test_prompts_that_do_not_fit_are_refused(language_model):
    with pytest.raises(ValueError, match="neither text to read nor codes"):
        make_prompt(language_model)
    with pytest.raises(ValueError, match=f"audio codes must be within 0 and {CODES - 1}"):
        make_prompt(language_model, codes=np.array([CODES]))  # of a codec with more codes
    with pytest.raises(ValueError, match="takes both"):
        make_prompt(language_model, "hello", np.array([1]))
    with pytest.raises(ValueError, match="the prompt takes 102 tokens .* context of 64"):
        make_prompt(language_model, codes=np.zeros(100, np.int64))
    with pytest.raises(ValueError, match="leaves no room in the context of 64"):
        make_prompt(language_model, "hello there " * 400)  # about 5,000 characters
    speech = Layout(CODES, 24000, "codec-a")
    with pytest.raises(ValueError, match="trained on speech alone"):
        make_prompt(LanguageModel(make_language_model(ModelSettings(**TINY), speech), speech), "hello")


def test_ids_that_are_no_prompt_are_refused(language_model):
    first = language_model.layout.audio_offset
    for wrong, message in {
        (BOS, AUDIO, first, 7): "ids of audio codes must be",  # text inside the audio part
        (BOS, AUDIO, EOS): "ids of audio codes must be",
        (BOS, first, AUDIO): "ids of text pieces must be",
        (BOS, 7): "must be <bos> text <audio> codes",
        (7, AUDIO): "must be <bos> text <audio> codes",
        (BOS, AUDIO, *[first] * 62): "leaves no room in the context of 64",
    }.items():
        with pytest.raises(ValueError, match=message):
            Generation(language_model, [np.array(wrong)])


@pytest.mark.parametrize("settings", [GREEDY, GenerationSettings()])
def test_damaged_weights_are_an_error(language_model, settings):
    broken = with_bias(language_model, id9=float("nan"))
    with pytest.raises(RuntimeError, match="NaN or infinite scores; its weights are damaged"):
        generate_codes(broken, prompts(broken), settings)


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_k": -1}, {"min_codes": 0}, {"max_codes": 5, "min_codes": 6}]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        GenerationSettings(**wrong)
