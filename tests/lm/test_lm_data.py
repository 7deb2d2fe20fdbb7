"""Token shards to batches: what is read and refused, what is scored, and that batches depend on seed and step alone."""

from dataclasses import replace

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from language_models import CODES, GROUPS, NEIGHBOURS, write_shard

from lm.batches import TrainingBatches, collate, make_windows, split_by_length, validation_batches
from lm.data import TokenCorpus, expand_shards, shard_layout, shard_neighbours
from lm.layout import AUDIO, BOS, EOS, Layout
from lm.model import IGNORED
from lm.reading import first_batch_with_text
from lm.text import TextTokenizer, train_text_tokenizer


@pytest.fixture(scope="module")
def text() -> TextTokenizer:
    """A text tokenizer of single letters and a few pieces."""
    return train_text_tokenizer(["hello there, general", "you are a bold one"] * 10, 40)


@pytest.fixture
def layout(text) -> Layout:
    """Vocabulary of a model with text."""
    return Layout(CODES, 24000, "codec-a", text.size, text.fingerprint)


@pytest.fixture
def corpus(tmp_path, layout, text) -> TokenCorpus:
    """Forty recordings of 5 to 60 codes, every fourth without text."""
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, CODES, rng.integers(5, 61)).tolist() for _ in range(40)]
    texts = ["" if i % 4 == 0 else "hello there" for i in range(40)]
    return TokenCorpus([str(write_shard(tmp_path / "a.parquet", codes, texts))], layout, text)


def test_sequences_are_laid_out_as_documented(tmp_path, layout, text):
    corpus = TokenCorpus([str(write_shard(tmp_path / "a.parquet", [[1, 2], [3]], ["Hello 1", "🙂"]))], layout, text)
    windows = make_windows(corpus, 100, 0.0, None)
    pieces = layout.pieces_to_ids(text.encode("hello one")).tolist()
    first = layout.audio_offset
    assert corpus.sequence(0, windows[0]).tolist() == [BOS, *pieces, AUDIO, first + 1, first + 2, EOS]
    assert corpus.sequence(1, windows[1]).tolist() == [BOS, AUDIO, first + 3, EOS]
    assert corpus.codes_per_second == pytest.approx(75)


def test_shards_that_do_not_fit_are_refused(tmp_path, layout, text):
    def read(*arguments) -> None:
        TokenCorpus([str(write_shard(tmp_path / "bad.parquet", *arguments))], layout, text)

    with pytest.raises(ValueError, match="bad.parquet: .*'codec-b'.*'codec-a'"):
        read([[1]], None, "codec-b")
    with pytest.raises(ValueError, match="no token shard: .*codec_fingerprint"):
        read([[1]], None, None)
    with pytest.raises(ValueError, match=f"within 0 and {CODES - 1}, got {CODES}"):
        read([[1], [CODES]])
    for empty in ([[1], []], [[1], None]):
        with pytest.raises(ValueError, match="a recording has no codes"):
            read(empty)
    with pytest.raises(ValueError, match="a code is missing"):
        read([[1, None]])
    with pytest.raises(ValueError, match="no recordings"):
        read([])
    path = tmp_path / "bad.parquet"
    table = pyarrow.parquet.read_table(write_shard(path, [[1]]))
    pyarrow.parquet.write_table(table.drop_columns(["text"]), path)
    with pytest.raises(ValueError, match="no column 'text'"):
        TokenCorpus([str(path)], layout, text)
    speech = Layout(CODES, 24000, "codec-a")
    assert len(TokenCorpus([str(path)], speech)) == 1
    with pytest.raises(ValueError, match="text tokenizer"):
        TokenCorpus([str(path)], layout)


def test_a_shard_names_its_vocabulary_and_may_be_empty(tmp_path, layout, text):
    full, empty = write_shard(tmp_path / "a.parquet", [[1, 2]]), write_shard(tmp_path / "b.parquet", [])
    assert shard_layout(full, text) == layout
    assert shard_layout(empty) == Layout(CODES, 24000, "codec-a")
    assert shard_layout(full).points_per_group == GROUPS
    assert shard_neighbours(full) == NEIGHBOURS
    assert len(TokenCorpus([str(full), str(empty)], layout, text)) == 1


def test_shards_without_groups_or_neighbours_are_read(tmp_path):
    path = write_shard(tmp_path / "a.parquet", [[1, 2]])
    table = pyarrow.parquet.read_table(path)
    kept = {key: value for key, value in table.schema.metadata.items() if not key.endswith(b"_per_group")}
    pyarrow.parquet.write_table(table.replace_schema_metadata(kept), path)
    assert shard_layout(path) == Layout(CODES, 24000, "codec-a")
    assert shard_layout(path).points_per_group == () and shard_neighbours(path) is None


def test_a_source_named_twice_counts_twice_and_an_empty_one_is_an_error(tmp_path):
    path = write_shard(tmp_path / "a.parquet", [[1]])
    assert expand_shards([str(tmp_path), str(path)]) == [path, path]
    (tmp_path / "part[1].parquet").write_bytes(path.read_bytes())
    assert [found.name for found in expand_shards([str(tmp_path / "part[1].parquet")])] == ["part[1].parquet"]
    with pytest.raises(ValueError, match="no Parquet files"):
        expand_shards([str(tmp_path / "*.wav")])


def test_texts_of_speech_sources_are_not_shown(tmp_path, layout, text):
    with_text, without = (str(write_shard(tmp_path / name, [[1], [2, 3]])) for name in ("a.parquet", "b.parquet"))
    corpus = TokenCorpus([with_text], layout, text, [without])
    assert corpus.num_codes.tolist() == [1, 2, 1, 2]
    assert corpus.num_pieces.tolist() == [len(text.encode("hello there"))] * 2 + [0, 0]


def test_positions_follow_the_sound(tmp_path, layout, text):
    layout = replace(layout, points_per_group=GROUPS)
    codes = [[1] * 10 + [2] * 30, [1] * 20 + [2] * 10, [3] * 12, [4] * 5]
    corpus = TokenCorpus([str(write_shard(tmp_path / "a.parquet", codes, ["a b", "a b", "a", ""]))], layout, text)
    windows = make_windows(corpus, 200, 0.0, None)
    assert corpus.positions(0, windows[0]) is None
    placed, alignment = corpus.fit_alignment(text)
    assert len(placed.codes_per_piece) == text.size and min(placed.codes_per_piece) >= 0
    assert placed == layout and placed.codes_before_text >= 0
    for index in range(len(corpus)):
        ids, positions = corpus.sequence(index, windows[index]), corpus.positions(index, windows[index])
        audio = ids.tolist().index(AUDIO)
        assert len(ids) == len(positions) and positions[0] == 0
        assert positions[audio:].tolist() == list(range(len(ids) - audio))
        assert (np.diff(positions[1:audio]) >= 0).all()
    batch = next(validation_batches(corpus, 200, 1000, True))
    longest = corpus.positions(0, windows[0])
    assert (
        batch.position_ids.shape == batch.input_ids.shape and batch.position_ids[-1].tolist() == longest[:-1].tolist()
    )
    for wrong in (None, text):
        with pytest.raises(ValueError, match="recordings with text"):
            TokenCorpus([str(write_shard(tmp_path / "b.parquet", [[1]], [""]))], layout, text).fit_alignment(wrong)
    alone = TokenCorpus([str(write_shard(tmp_path / "c.parquet", codes[1:2], ["a b"]))], layout, text)
    alone.place_text(alignment)
    assert (alone.positions(0, windows[1]) == corpus.positions(1, windows[1])).all()


def test_only_codes_and_the_end_are_scored():
    input_ids, targets = collate([np.array([BOS, 7, 8, AUDIO, 20, 21, EOS]), np.array([BOS, AUDIO, 22, EOS])])
    assert input_ids.tolist() == [[BOS, 7, 8, AUDIO, 20, 21], [BOS, AUDIO, 22, 0, 0, 0]]
    none = IGNORED
    assert targets.tolist() == [[none, none, none, 20, 21, EOS], [none, 22, EOS, none, none, none]]


def test_windows_keep_to_the_context(corpus):
    for context in (8, 12, 20, 64, 200):
        windows = make_windows(corpus, context, 0.3, np.random.default_rng(1))
        for index in range(len(corpus)):
            row = corpus.sequence(index, windows[index])
            assert len(row) == windows.length[index] <= context
            assert (row[-1] == EOS) == windows.ends[index]
            assert len(row) - 1 - int(np.argmax(row == AUDIO)) == windows.num_scored[index] > 0
    whole = make_windows(corpus, 200, 0.0, None)
    assert whole.ends.all() and (whole.num_codes == corpus.num_codes).all()
    assert (whole.with_text == (corpus.num_pieces > 0)).all()


def test_cut_recordings_with_text_start_at_their_start_and_others_anywhere(corpus):
    windows = make_windows(corpus, 20, 0.0, np.random.default_rng(1))
    assert (windows.start[windows.with_text] == 0).all()
    assert windows.start[~windows.with_text].max() > 0
    assert not windows.ends[windows.start + windows.num_codes < corpus.num_codes].any()


def test_batches_depend_on_seed_and_step_alone(corpus):
    def make(seed: int) -> TrainingBatches:
        return TrainingBatches(corpus, 64, 256, 0.3, seed)

    in_order = make(7)
    batches = [in_order.batch(step) for step in range(30)]
    assert in_order.epoch(29) >= 2
    for step in (29, 0, 13):  # forwards and back, as after an interruption
        assert torch.equal(make(7).batch(step).input_ids, batches[step].input_ids)
        assert torch.equal(in_order.batch(step).input_ids, batches[step].input_ids)
    assert any(
        batches[step].input_ids.shape != make(8).batch(step).input_ids.shape
        or not torch.equal(batches[step].input_ids, make(8).batch(step).input_ids)
        for step in range(3)
    )


def test_an_epoch_shows_every_recording_once_within_the_budget(corpus):
    batches = TrainingBatches(corpus, 64, 256, 0.0, 0)
    steps = [step for step in range(40) if batches.epoch(step) == 1]
    rows = []
    for step in steps:
        batch = batches.batch(step)
        assert batch.input_ids.shape[0] * (batch.input_ids.shape[1] + 1) <= 256
        assert (batch.targets != IGNORED).sum() == batch.num_scored
        rows += [tuple(row[row != 0].tolist()) for row in batch.input_ids]
    windows = make_windows(corpus, 64, 0.0, None)
    assert len(rows) == 40
    assert sorted(map(len, rows)) == sorted((windows.length - 1).tolist())


def test_the_budget_holds_the_longest_sequence(corpus):
    with pytest.raises(ValueError, match="at least the context"):
        TrainingBatches(corpus, 64, 63, 0.0, 0)
    order = np.arange(4)
    assert [b.tolist() for b in split_by_length(order, np.array([5, 5, 5, 20]), 15)] == [[0, 1, 2], [3]]


def test_the_first_batch_with_text_is_found(corpus):
    for seed in range(8):
        batches = TrainingBatches(corpus, 64, 64, 0.9, seed)  # most are shown without their text
        found = first_batch_with_text(batches).input_ids
        shown = [
            (batches.batch(step).input_ids[:, 1] != AUDIO).any() for step in range(100) if batches.epoch(step) == 0
        ]
        assert torch.equal(found, batches.batch(shown.index(True)).input_ids)
    with pytest.raises(ValueError, match="no recording of the data is shown with a text"):
        first_batch_with_text(TrainingBatches(corpus, 64, 64, 1.0, 0))


def test_processes_share_a_batch(corpus):
    batches = TrainingBatches(corpus, 64, 256, 0.0, 0)
    for step in range(10):
        whole = batches.batch(step)
        parts = [batches.batch(step, process, 3) for process in range(3)]
        assert {part.num_scored for part in parts} == {whole.num_scored}
        assert sum(int((part.targets != IGNORED).sum()) for part in parts) == whole.num_scored
    # More processes than sequences: the others compute something that does not count.
    parts = [batches.batch(0, process, 60) for process in range(60)]
    assert all(len(part.input_ids) for part in parts)
    assert sum(int((part.targets != IGNORED).sum()) for part in parts) == parts[0].num_scored


def test_validation_shows_every_recording_once(corpus):
    for with_text in (True, False):
        batches = list(validation_batches(corpus, 100, 256, with_text))
        assert sum(len(batch.input_ids) for batch in batches) == len(corpus)
        assert sum(batch.num_codes for batch in batches) == corpus.num_codes.sum()
        shown = sum(int((batch.input_ids == AUDIO).int().argmax(1).gt(1).sum()) for batch in batches)
        assert shown == (30 if with_text else 0)
