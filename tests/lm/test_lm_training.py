"""The language model and its trainer: no leaks, what is learned, and what a run refuses."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from language_models import CODES, GROUPS, NEIGHBOURS, TINY, write_shard
from transformers import LlamaForCausalLM

from lm.batches import collate
from lm.layout import AUDIO, BOS, EOS, PAD, Layout
from lm.model import IGNORED, LanguageModel, ModelSettings, make_language_model
from lm.scoring import Scorer, make_scorer
from lm.text import train_text_tokenizer
from lm.training import LanguageModelTrainer, TrainConfig
from q2d2_tokenizer.commands.main import main


@pytest.fixture
def shards(tmp_path) -> Path:
    """Two token shards, for training and validation, and a text tokenizer."""
    rng = np.random.default_rng(0)
    texts = ["hello there, general", "you are a bold one", ""]
    for name, n in (("train", 24), ("validation", 6)):
        codes = [rng.integers(0, CODES, rng.integers(5, 40)).tolist() for _ in range(n)]
        write_shard(tmp_path / f"{name}.parquet", codes, [texts[i % 3] for i in range(n)])
    (tmp_path / "text.model").write_bytes(train_text_tokenizer(texts * 5, 40).model)
    return tmp_path


@pytest.fixture
def settings(shards) -> dict:
    """Arguments of a run of a few steps."""
    return {
        "data": [str(shards / "train.parquet")],
        "validation_data": [str(shards / "validation.parquet")],
        "text_model": str(shards / "text.model"),
        "speech_only_share": 0.3,
        "steps": 12,
        "tokens_per_batch": 256,
        "warmup_steps": 2,
        "decay_steps": 4,
        "log_every": 1,
        "validate_every": 6,
        "save_every": 5,
    }


def make_trainer(
    settings: dict, output: Path, head: str = "flat", positions: str = "order", **changes
) -> LanguageModelTrainer:
    """A trainer of a tiny model with dropout, so that the random numbers count too."""
    config = TrainConfig(**(settings | {"output": str(output)} | changes))
    model = ModelSettings(**TINY, attention_dropout=0.1, audio_head=head, text_positions=positions)
    return LanguageModelTrainer(config, model)


def tiny_scorer(head: str = "flat", **settings) -> Scorer:
    """A tiny model of speech alone, with weights large enough to tell tokens apart."""
    torch.manual_seed(0)
    layout = Layout(CODES, 24000, "codec-a", points_per_group=GROUPS)
    model = make_language_model(ModelSettings(**TINY | settings, audio_head=head), layout)
    for weight in model.parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=0.3)
    return make_scorer(model, layout, NEIGHBOURS).eval()


@pytest.mark.parametrize("head", ["flat", "pairs"])
def test_audio_sees_text_that_lies_where_its_sound_is_expected(head):
    layout = Layout(CODES, 24000, "codec-a", 9, "text-a", GROUPS, codes_per_piece=(2.0,) * 9)
    torch.manual_seed(0)
    scorer = make_scorer(make_language_model(ModelSettings(**TINY, audio_head=head), layout), layout)
    codes = torch.arange(20) + layout.audio_offset
    one, two = (torch.cat([torch.tensor([BOS, piece, 6, 7, AUDIO]), codes])[None] for piece in (4, 5))
    targets = torch.full_like(one, IGNORED)
    targets[0, -1] = layout.audio_offset
    with torch.no_grad():
        assert scorer(one, targets).item() != scorer(two, targets).item()


both_heads = pytest.mark.parametrize("head", ["flat", "pairs"])


def sequences(*lengths: int) -> list[np.ndarray]:
    """Sequences of random codes."""
    layout, rng = Layout(CODES, 24000, "codec-a"), np.random.default_rng(0)
    none = np.empty(0, np.int64)
    return [np.append(layout.prompt(none, rng.integers(0, CODES, length)), EOS) for length in lengths]


@both_heads
@torch.no_grad()
def test_neighbours_and_padding_do_not_change_a_loss(head):
    scorer, rows = tiny_scorer(head), sequences(3, 20, 11)
    together = scorer(*collate(rows))
    alone = torch.cat([scorer(*collate([row])) for row in rows])
    assert len(together) == 3 + 20 + 11 + 3
    assert torch.allclose(together, alone, atol=1e-5)
    input_ids, targets = collate(rows)
    padding = torch.ones_like(input_ids, dtype=torch.bool)
    for number, row in enumerate(rows):
        padding[number, : len(row) - 1] = False
    changed = torch.where(padding, torch.full_like(input_ids, 30), input_ids)
    assert (changed != input_ids).any()
    assert torch.allclose(scorer(changed, targets), together, atol=1e-5)


@both_heads
@torch.no_grad()
def test_no_token_sees_a_later_one(head):
    scorer, (row,) = tiny_scorer(head), sequences(20)
    changed = row.copy()
    changed[12:-1] = (changed[12:-1] - 4 + 1) % CODES + 4
    one, two = (scorer(*collate([ids])) for ids in (row, changed))
    place = 12 - 2  # of the first code that differs, after <bos> <audio>
    assert torch.allclose(one[:place], two[:place], atol=1e-6)
    assert not torch.isclose(one[place + 1 :], two[place + 1 :], atol=1e-4).any()


def test_the_score_is_the_loss_of_transformers():
    scorer, rows = tiny_scorer(), sequences(9, 9)
    input_ids, targets = collate(rows)
    logits = scorer.model(input_ids=input_ids).logits
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
    assert torch.allclose(scorer(input_ids, targets).mean(), expected, atol=1e-6)


@both_heads
def test_a_batch_without_targets_gives_zero_gradients(head):
    scorer, (row,) = tiny_scorer(head), sequences(5)
    input_ids, targets = collate([row])
    scorer(input_ids, torch.full_like(targets, IGNORED)).sum().backward()
    assert all(weight.grad is not None and not weight.grad.any() for weight in scorer.parameters())


def test_gradients_of_many_processes_average_to_those_of_one(settings, tmp_path):
    trainer = make_trainer(settings, tmp_path / "run")
    scorer = trainer.model.eval()

    def gradients(processes: int) -> list[torch.Tensor]:
        for process in range(processes):
            batch = trainer.batches.batch(0, process, processes)
            loss = scorer(batch.input_ids, batch.targets).sum() * processes / batch.num_scored
            (loss / processes).backward()  # gradients add up here and are averaged over processes there
        found = [weight.grad.clone() for weight in scorer.parameters()]
        scorer.zero_grad()
        return found

    for one, many in zip(gradients(1), gradients(30), strict=True):  # more processes than sequences
        assert torch.allclose(one, many, atol=1e-6)


@both_heads
def test_it_overfits_one_batch(head):
    scorer = tiny_scorer(head)
    scorer.model.apply(scorer.model._init_weights)
    batch = collate(sequences(30, 25, 20))
    optimizer = torch.optim.AdamW(scorer.parameters(), 1e-2)
    for _ in range(150):
        loss = scorer(*batch).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


def test_a_saved_model_is_a_stock_llama_and_knows_its_codec(tmp_path):
    layout = Layout(CODES, 24000, "codec-a")
    LanguageModel(tiny_scorer().model, layout).save(tmp_path)
    loaded = LanguageModel.load(tmp_path, "codec-a")
    stock = LlamaForCausalLM.from_pretrained(tmp_path)
    assert (stock.config.bos_token_id, stock.config.eos_token_id, stock.config.pad_token_id) == (BOS, EOS, PAD)
    for name, weight in tiny_scorer().model.state_dict().items():
        assert torch.equal(weight, stock.state_dict()[name]) and torch.equal(weight, loaded.model.state_dict()[name])
    with pytest.raises(ValueError, match="'codec-b'.*'codec-a'"):
        LanguageModel.load(tmp_path, "codec-b")
    with pytest.raises(ValueError, match="not of the same training run"):
        LanguageModel(loaded.model, Layout(CODES + 1, 24000, "codec-a"))


def test_a_run_goes_on_from_weights_and_refuses_those_that_do_not_fit(settings, shards, tmp_path):
    first = make_trainer(settings, tmp_path / "first")
    first.run()
    weights = str(tmp_path / "first" / "weights")
    second = make_trainer(settings, tmp_path / "second", weights=weights)
    assert second.progress.step == 0
    for one, two in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, two)
    with pytest.raises(ValueError, match="'audio_head': 'flat'.*'audio_head': 'pairs'"):
        make_trainer(settings, tmp_path / "third", "pairs", weights=weights)
    with pytest.raises(ValueError, match="'text_positions': 'order'.*'text_positions': 'durations'"):
        make_trainer(settings, tmp_path / "third", positions="durations", weights=weights)
    with pytest.raises(ValueError, match="another vocabulary"):
        make_trainer(settings, tmp_path / "fourth", text_model="", weights=weights)
    other = write_shard(shards / "other.parquet", [[1, 2, 3]], None, "codec-b")
    with pytest.raises(ValueError, match="'codec-a'.*'codec-b'|'codec-b'.*'codec-a'"):
        make_trainer(settings, tmp_path / "fifth", weights=weights, data=[str(other)])
    with pytest.raises(ValueError, match="reading_layers"):
        TrainConfig(data=["x"], output="y", weights=weights, reading_layers=[0])


def test_a_run_writes_a_log_in_bits_and_weights_that_load(settings, tmp_path):
    output = tmp_path / "run"
    make_trainer(settings, output, steps=2).run()
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert lines[0]["bits_per_token"] == pytest.approx(lines[0]["loss_nats"] / math.log(2))
    loaded = LanguageModel.load(output / "weights", "codec-a")
    assert loaded.text.size == loaded.layout.text_size > 0
    with pytest.raises(ValueError, match="did you mean .*/weights"):
        LanguageModel.load(output)


def test_validation_is_in_nats_bits_per_token_and_bits_per_second(settings, tmp_path):
    trainer = make_trainer(settings, tmp_path / "run")
    for weight in trainer.language_model.model.parameters():
        torch.nn.init.zeros_(weight)  # every id is as likely
    values = trainer.validate()
    bits = math.log2(trainer.language_model.layout.vocab_size)
    codes, recordings = trainer.validation.num_codes.sum(), len(trainer.validation)
    for name in ("validation", "validation_speech_only"):
        assert values[f"{name}_loss_nats"] == pytest.approx(bits * math.log(2), rel=1e-5)
        assert values[f"{name}_bits_per_token"] == pytest.approx(bits, rel=1e-5)
        expected = bits * (codes + recordings) / (codes / 75)  # 24000 / 320 codes per second; <eos> costs bits too
        assert values[f"{name}_bits_per_second"] == pytest.approx(expected, rel=1e-5)
        assert list(values[f"{name}_bits_by_place"])[:4] == [0, 1, 3, 7]
        assert all(value == pytest.approx(bits, rel=1e-5) for value in values[f"{name}_bits_by_place"].values())
        assert sum(values[f"{name}_bits_by_group"]) == pytest.approx(bits, rel=1e-5)
        assert values[f"{name}_bits_by_group"][1] == pytest.approx(math.log2(GROUPS[1]), rel=1e-5)
        assert (values[f"{name}_right_share"], values[f"{name}_near_miss_share"]) == (0, 0)  # <pad> is the first id


@pytest.fixture
def new_accelerator_state():
    """Accelerate keeps one precision per process; forget it before and after a test of another one."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_bfloat16_trains_and_keeps_float32_weights(settings, tmp_path, new_accelerator_state):
    trainer = make_trainer(settings, tmp_path / "run", mixed_precision="bf16")
    values = [float(trainer.train_step()["loss_nats"]) for _ in range(3)]
    assert all(map(math.isfinite, values))
    assert all(weight.dtype == torch.float32 for weight in trainer.model.parameters())


def test_a_run_of_another_vocabulary_is_not_continued(settings, shards, tmp_path):
    make_trainer(settings, tmp_path / "run", max_minutes=0.0).run()
    with pytest.raises(ValueError, match="another vocabulary"):
        make_trainer(settings, tmp_path / "run", text_model="")
    codes = [[1, 2, 3]]
    other = write_shard(shards / "other.parquet", codes, None, "codec-b")
    with pytest.raises(ValueError, match="'codec-b'.*'codec-a'"):
        make_trainer(settings, tmp_path / "run", data=[str(other)])


def test_a_run_keeps_the_durations_it_began_with(settings, shards, tmp_path):
    make_trainer(settings, tmp_path / "run", positions="durations", max_minutes=0.0).run()
    other = write_shard(shards / "other.parquet", [[1] * 90] * 5, ["hello there"] * 5)
    changed = make_trainer(settings, tmp_path / "run", positions="durations", data=[str(other)])
    found = Layout.load(tmp_path / "run").codes_per_piece
    assert changed.language_model.layout.codes_per_piece == found != ()
    assert changed.scorer.layout.codes_per_piece == found


@pytest.mark.parametrize(
    "wrong",
    [
        {"speech_only_share": 2.0},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrainConfig(data=["x"], output="y", **wrong)
    with pytest.raises(ValueError, match="hidden_size"):
        ModelSettings(hidden_size=10, num_heads=3)
    with pytest.raises(ValueError, match="audio_head"):
        ModelSettings(audio_head="round")
    with pytest.raises(ValueError, match="text_positions"):
        ModelSettings(text_positions="round")


def test_the_command_trains(settings, tmp_path):
    values = {"data": settings["data"][0], "validation_data": settings["validation_data"][0]}
    values |= {"text_model": settings["text_model"], "steps": 2, "tokens_per_batch": 128, "output": tmp_path / "run"}
    argv = [word for name, value in (values | TINY).items() for word in (f"--{name}", str(value))]
    assert main(["train-lm", *argv]) == 0
    assert LanguageModel.load(tmp_path / "run" / "weights", "codec-a").layout.codebook_size == CODES
