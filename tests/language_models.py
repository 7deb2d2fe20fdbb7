"""Token shards and tiny language models for tests."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CODES = 50
GROUPS = (5, 10)
NEIGHBOURS = [[[j for j in (i - 1, i + 1) if 0 <= j < size] for i in range(size)] for size in GROUPS]  # points in a row
TINY = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64, "context": 64}


def write_shard(path: Path, codes: list, text: list[str] | None = None, fingerprint: str | None = "codec-a") -> Path:
    """A token shard as the tokenizer writes it, 320 samples per code."""
    columns = {
        "id": [str(i) for i in range(len(codes))],
        "codes": pyarrow.array(codes, pyarrow.list_(pyarrow.int32())),
        "num_samples": [320 * len(row or []) for row in codes],
        "text": text or ["hello there"] * len(codes),
        "speaker": ["s"] * len(codes),
    }
    table = pyarrow.table(columns)
    if fingerprint:
        metadata = {"codec_fingerprint": fingerprint, "codebook_size": str(CODES), "sampling_rate": "24000"}
        metadata |= {"points_per_group": json.dumps(GROUPS), "neighbours_per_group": json.dumps(NEIGHBOURS)}
        table = table.replace_schema_metadata(metadata)
    pyarrow.parquet.write_table(table, path)
    return path


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def make_llama(vocab_size: int = 256, tied: bool = False) -> LlamaForCausalLM:
    """A tiny Llama with random weights, as if trained on text."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocab_size, tie_word_embeddings=tied, **sizes)).eval()
