"""The command `q2d2 evaluate`."""

from pathlib import Path

from ..evaluation.options import EvaluationOptions


def evaluate(
    *,
    data: list[str],
    write_clips: Path | None = None,
    options: EvaluationOptions = EvaluationOptions(),  # noqa: B008 - frozen
) -> None:
    """Measure a codec on recordings, next to Opus, Codec2, other programs, and folders of audio that others decoded.

        q2d2 evaluate --data 'speech/librispeech-validation-*.parquet' --output docs/results
        q2d2 evaluate --data speech --clips 100 --metrics all --decoded Mimi=decoded/mimi
        q2d2 evaluate --data speech --program 'Codec2 700C=8000 c2enc 700C in.raw bits && c2dec 700C bits out.raw'

    Writes evaluation.json (every clip and the summary, with command, commit and versions), evaluation.md (tables) and
    evaluation.png, and in the folder details, which git ignores: index.html with players, the audio, and rows.jsonl,
    from which an interrupted evaluation goes on, also with more metrics or codecs. Rows are known by codec and samples
    but not by the code of the metrics: --restart measures all again.

    Opus needs the programs opusenc and opusdec, Codec2 c2enc and c2dec (Debian: opus-tools, codec2). X-codec2 of
    transformers needs torchaudio: decode the clips elsewhere and give the folder.

    Args:
        data: Parquet, tar or audio files, folders, globs, lists or URLs (see docs/inputs.md).
        write_clips: Folder to write the clips to as wav files, for other codecs to decode, instead of measuring.
    """
    from ..bundled import load_codec
    from ..evaluation.clips import load_clips
    from ..evaluation.evaluate import evaluate_codec
    from ..evaluation.evaluate import write_clips as write_all

    if write_clips:
        rate = load_codec(options.codec).config.sampling_rate
        write_all(load_clips(data, options.cache, rate, options.clips, **options.columns), write_clips)
        return
    evaluate_codec(data, **vars(options))
    print((options.output / "evaluation.md").read_text())
