"""Audio tokens in a model that exists: ids, codes and strings, refusals, training, and audio that decodes."""

import json

import numpy as np
import pytest
import torch
from language_models import make_llama, make_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

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
    assert ids[3:] == [audio.start_id, *audio.codes_to_ids(codes).tolist(), audio.end_id]
    assert audio.ids_to_codes(torch.tensor(ids[4:-1])).tolist() == codes.tolist()
    assert audio.text_to_codes(text).tolist() == codes.tolist()
    assert audio.text_to_codes(tokenizer.decode(ids[3:])).tolist() == codes.tolist()
    assert audio.text_to_codes(f" {text}\n").tolist() == codes.tolist()
    assert len(tokenizer) == 256 + 2 + CODES == model.get_input_embeddings().num_embeddings


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
    for wrong in (audio.start_id, audio.end_id, 65, audio.first_code_id + CODES):
        with pytest.raises(ValueError, match=f"ids of audio codes must be within .* got {wrong}"):
            audio.ids_to_codes(torch.tensor([audio.first_code_id, wrong]))
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
