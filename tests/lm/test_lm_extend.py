"""Audio tokens in a model that exists: ids, codes and strings, refusals, training, and audio that decodes."""

import json

import numpy as np
import pytest
import torch
from language_models import make_llama, make_tokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    LlamaForCausalLM,
    LlamaTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    T5Tokenizer,
    Trainer,
    TrainingArguments,
)

from lm.extend import AUDIO_TOKENS_FILE, AudioTokens, add_audio_tokens

CODES = 300


@pytest.fixture
def extended() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast, AudioTokens]:
    """Model, tokenizer and audio tokens."""
    model, tokenizer = make_llama(), make_tokenizer()
    return model, tokenizer, add_audio_tokens(model, tokenizer, CODES, "codec-a")


def test_strings_ids_and_codes_are_one_thing(extended):
    model, tokenizer, audio = extended
    codes = np.array([0, 17, CODES - 1, 17])
    text = audio.codes_to_text(codes)
    assert text == f"<|audio|><|q2d2_0|><|q2d2_17|><|q2d2_{CODES - 1}|><|q2d2_17|><|audio_end|>"
    ids = tokenizer(f"hi {text}").input_ids
    assert ids[3:] == audio.codes_to_ids(codes).tolist() == audio.codes_to_ids(torch.tensor(codes)).tolist()
    for first, stop in ((3, len(ids)), (4, len(ids)), (3, -1), (4, -1)):  # with and without the markers
        assert audio.ids_to_codes(torch.tensor(ids[first:stop])).tolist() == codes.tolist()
        assert audio.ids_to_codes(np.array(ids[first:stop])).tolist() == codes.tolist()
    both = np.stack([codes, codes[::-1]])
    assert audio.ids_to_codes(audio.codes_to_ids(both)).tolist() == both.tolist()
    assert audio.ids_to_codes(audio.codes_to_ids(codes[:0])).tolist() == []
    assert audio.text_to_codes(text).tolist() == codes.tolist()
    assert audio.text_to_codes(tokenizer.decode(ids[3:])).tolist() == codes.tolist()
    assert audio.text_to_codes(f" {text}\n").tolist() == codes.tolist()
    assert len(tokenizer) == 256 + 2 + CODES == model.get_input_embeddings().num_embeddings


SENTENCE = "the quick brown fox jumps over the lazy dog"


def make_tokenizer_of(family: str) -> PreTrainedTokenizerBase:
    """A tokenizer of a family, trained on a sentence."""
    if family == "llama":
        letters = ["<unk>", "<s>", "</s>", "\u2581", *sorted(set(SENTENCE) - {" "})]
        vocabulary = {letter: number for number, letter in enumerate(letters)}
        return LlamaTokenizer(vocab=vocabulary, merges=[])
    if family == "t5":  # sentencepiece's unigrams
        pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -1.0)]
        return T5Tokenizer(vocab=pieces + [(letter, -2.0) for letter in sorted(set(SENTENCE) - {" "})], extra_ids=0)
    special = {"unk_token": "[UNK]"}
    tokenizer, trainer, splitter = {
        "words": (models.WordLevel(**special), trainers.WordLevelTrainer, pre_tokenizers.Whitespace()),
        "wordpiece": (models.WordPiece(**special), trainers.WordPieceTrainer, pre_tokenizers.BertPreTokenizer()),
        "bpe": (models.BPE(), trainers.BpeTrainer, pre_tokenizers.ByteLevel()),
        "unigram": (models.Unigram(), trainers.UnigramTrainer, pre_tokenizers.Metaspace()),
    }[family]
    tokenizer = Tokenizer(tokenizer)
    tokenizer.pre_tokenizer = splitter
    if family == "wordpiece":
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    unknown = {"unk_token": "[UNK]"} if family == "unigram" else {}
    tokenizer.train_from_iterator([SENTENCE] * 3, trainer(special_tokens=["[UNK]"], show_progress=False, **unknown))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


@pytest.mark.parametrize("family", ["words", "wordpiece", "bpe", "unigram", "llama", "t5"])
def test_every_family_of_tokenizers_gives_the_same_ids(family, tmp_path):
    tokenizer = make_tokenizer_of(family)
    before = tokenizer(SENTENCE, add_special_tokens=False).input_ids
    audio = add_audio_tokens(make_llama(vocab_size=len(tokenizer)), tokenizer, CODES, "codec-a")
    codes = np.array([0, 17, CODES - 1, 17])
    text = audio.codes_to_text(codes)
    tokenizer.save_pretrained(tmp_path)
    for reader in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        assert reader(text, add_special_tokens=False).input_ids == audio.codes_to_ids(codes).tolist()
        ids = reader(SENTENCE + text, add_special_tokens=False).input_ids
        assert ids == [*before, *audio.codes_to_ids(codes)]
        assert audio.text_to_codes(reader.decode(ids[len(before) :])).tolist() == codes.tolist()


def test_the_trainer_of_transformers_teaches_it_to_end(tmp_path):
    model, tokenizer = make_llama(tied=True), make_tokenizer()
    audio = add_audio_tokens(model, tokenizer, CODES, "codec-a")
    spoken = {"one": np.array([3, 1, 4]), "two": np.array([2, 7, 1, 8])}
    tokenizer.pad_token = "!"
    rows = [
        {"input_ids": tokenizer(text).input_ids + audio.codes_to_ids(codes).tolist()} for text, codes in spoken.items()
    ]
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=60, learning_rate=1e-2, save_strategy="no", report_to="none", use_cpu=True,
        disable_tqdm=True,
    )  # fmt: skip
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)  # labels are the ids, padding is not scored
    Trainer(model, arguments, collator, train_dataset=rows).train()
    for text, codes in spoken.items():
        prompt = torch.tensor([[*tokenizer(text).input_ids, audio.start_id]])
        generated = model.eval().generate(
            prompt, max_new_tokens=20, do_sample=False, eos_token_id=audio.end_id, pad_token_id=audio.end_id,
            logits_processor=audio.logits_processor(),
        )  # fmt: skip
        assert generated[0, -1] == audio.end_id
        assert audio.ids_to_codes(generated[0, prompt.shape[1] :]).tolist() == codes.tolist()


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_says_of_text_what_it_said_before(tied):
    model, tokenizer = make_llama(tied=tied), make_tokenizer()
    ids = tokenizer("hello there", return_tensors="pt").input_ids
    with torch.no_grad():
        before = model(ids).logits
        add_audio_tokens(model, tokenizer, CODES, "codec-a")
        after = model(ids).logits
    assert tokenizer("hello there", return_tensors="pt").input_ids.equal(ids)
    assert torch.allclose(before, after[..., :256], atol=1e-5)
    assert after.shape[-1] == model.config.vocab_size == 256 + 2 + CODES


def test_rows_to_spare_are_kept():
    model = make_llama(vocab_size=1024)
    audio = add_audio_tokens(model, make_tokenizer(), CODES, "codec-a")
    assert model.get_input_embeddings().num_embeddings == 1024 and audio.first_code_id == 258


def test_what_is_no_code_is_refused(extended):
    audio = extended[2]
    for codes in (np.array([CODES]), np.array([-1]), np.array([0.5])):
        for convert in (audio.codes_to_ids, audio.codes_to_text):
            with pytest.raises(ValueError, match="audio codes must be"):
                convert(codes)
    first = audio.first_code_id
    for wrong in (audio.start_id, audio.end_id, 65, first + CODES):
        with pytest.raises(ValueError, match=f"ids of audio codes must be within .* got {wrong}"):
            audio.ids_to_codes(torch.tensor([first, wrong, first]))
    with pytest.raises(ValueError, match="alone, got also 'hello'"):
        audio.text_to_codes("<|audio|><|q2d2_1|>hello<|audio_end|>")
    with pytest.raises(ValueError, match="got 300"):
        audio.text_to_codes("<|q2d2_300|>")


def test_a_tokenizer_is_extended_once(extended):
    with pytest.raises(ValueError, match="has audio tokens already, such as '<.audio_end.>'"):
        add_audio_tokens(*extended[:2], CODES, "codec-a")


def test_a_saved_model_comes_back_and_knows_its_codec(extended, tmp_path):
    model, tokenizer, audio = extended
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path)
    audio.save(tmp_path)
    assert AudioTokens.load(tmp_path, "codec-a") == audio
    text = audio.codes_to_text(np.arange(5))
    assert AutoTokenizer.from_pretrained(tmp_path)(text).input_ids == tokenizer(text).input_ids
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config.vocab_size == len(tokenizer)
    with pytest.raises(ValueError, match="extended for codec 'codec-a', not for 'codec-b'"):
        AudioTokens.load(tmp_path, "codec-b")
    (tmp_path / AUDIO_TOKENS_FILE).write_text(json.dumps({"codebook_size": 3}))
    with pytest.raises(ValueError, match="does not describe audio tokens"):
        AudioTokens.load(tmp_path, "codec-a")


def test_it_learns_to_speak_and_what_it_says_decodes(tiny_model, speech_like):
    model, tokenizer = make_llama(tied=True), make_tokenizer()
    audio = add_audio_tokens(model, tokenizer, tiny_model.config.codebook_size, tiny_model.fingerprint())
    codes = tiny_model.encode(torch.from_numpy(speech_like(3200)).view(1, 1, -1)).audio_codes.flatten().numpy()
    ids = tokenizer("say hello" + audio.codes_to_text(codes), return_tensors="pt").input_ids
    prompt = tokenizer("say hello<|audio|>", return_tensors="pt")

    def generate() -> torch.Tensor:
        new = {"max_new_tokens": 20, "do_sample": False, "eos_token_id": audio.end_id, "pad_token_id": audio.end_id}
        generated = model.generate(**prompt, **new, logits_processor=audio.logits_processor())
        return generated[0, prompt.input_ids.shape[1] :]

    before = generate()
    audio.ids_to_codes(before[before != audio.end_id])  # audio alone, before any training
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(60):
        loss = model(ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = generate()
    assert after[-1] == audio.end_id
    assert audio.ids_to_codes(after[:-1]).tolist() == codes.tolist()
    decoded = tiny_model.decode(audio.ids_to_codes(after[:-1]).view(1, 1, -1)).audio_values
    assert decoded.shape == (1, 1, 3200) and decoded.isfinite().all()
