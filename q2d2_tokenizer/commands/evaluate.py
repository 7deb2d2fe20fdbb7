"""The command `q2d2 evaluate`."""

from pathlib import Path
from typing import Any

from ..bundled import load_codec
from ..evaluation.clips import load_clips
from ..evaluation.evaluate import evaluate_codec
from ..evaluation.evaluate import write_clips as write_all


def evaluate(
    *,
    data: list[str],
    codec: str = "bundled",
    output: Path = Path("runs/evaluation"),
    cache: Path = Path("runs/cache"),
    clips: int | None = None,
    write_clips: Path | None = None,
    **options: Any,
) -> None:
    """Measure a codec on recordings, next to Opus, Codec2 and folders of audio that other codecs decoded.

        q2d2 evaluate --data 'speech/librispeech-validation-*.parquet' --output docs/results
        q2d2 evaluate --data speech --clips 100 --metrics all --decoded Mimi=decoded/mimi

    Writes evaluation.json (every clip and the summary, with command, commit and versions), evaluation.md (tables) and
    evaluation.png, and in the folder details, which git ignores: index.html with players, the audio, and rows.jsonl,
    from which an interrupted evaluation goes on, also with more metrics or codecs. Rows are known by codec and samples
    but not by the code of the metrics: --restart measures all again.

    Opus needs the programs opusenc and opusdec, Codec2 c2enc and c2dec (Debian: opus-tools, codec2). X-codec2 of
    transformers needs torchaudio: decode the clips elsewhere and give the folder.

    Args:
        data: Parquet, tar or audio files, folders, globs, lists or URLs (see docs/inputs.md).
        codec: Folder of a codec, its name on the Hub, or bundled.
        output: Folder for the results.
        cache: Folder for decoded audio.
        clips: Largest number of recordings, evenly spread; all if left out.
        write_clips: Folder to write the clips to as wav files, for other codecs to decode, instead of measuring.
    """
    if write_clips:
        columns = {name: options[name] for name in ("audio_column", "id_column", "text_column") if name in options}
        found = load_clips(data, cache, load_codec(codec).config.sampling_rate, clips, **columns)
        write_all(found, write_clips)
        return
    evaluate_codec(data, codec=codec, output=output, cache=cache, clips=clips, **options)
    print((output / "evaluation.md").read_text())
