"""A small corpus with everything that goes wrong, and how tests tokenize it."""

import hashlib
from pathlib import Path

from q2d2_tokenizer import Q2D2Model
from q2d2_tokenizer.corpus.sources import Corpus
from q2d2_tokenizer.corpus.tokenize import CorpusOptions, CorpusTokenizer

RATE = 24000
SCRIPTS = Path(__file__).parents[1] / "scripts"
REASONS = {"empty": 3, "not finite": 1, "silent": 1, "too long": 1, "unreadable": 2}
OPTIONS = CorpusOptions(max_hours=4 / 3600, rows_per_shard=3)


def tokenizer_of(source: Path, model: Q2D2Model, folder: Path, options: CorpusOptions = OPTIONS) -> CorpusTokenizer:
    return CorpusTokenizer(Corpus([str(source)]), model, folder, options)


def tokenize(source: Path, model: Q2D2Model, folder: Path, options: CorpusOptions = OPTIONS) -> dict:
    tokenizer = tokenizer_of(source, model, folder, options)
    tokenizer.prepare()
    tokenizer.run()
    return tokenizer.finish("cc0-1.0", "a test")


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
