"""The command `q2d2 evaluate-lm`."""

import dataclasses
from pathlib import Path
from typing import Any

from lm.settings import CONTINUATION, SpeechOptions


def evaluate_lm(
    *,
    tokens: list[str] | None = None,
    recordings: list[str] | None = None,
    clips: int = 100,
    sentences: Path | None = None,
    asr: str | None = None,
    metrics: list[str] | None = None,
    continuation_temperature: float = CONTINUATION.temperature,
    output: Path = Path("runs/lm_evaluation"),
    restart: bool = False,
    codec: str = "bundled",
    language_model: str = "bundled",
    options: SpeechOptions = SpeechOptions(),  # noqa: B008 - frozen
) -> None:
    """Measure a language model: bits of held-out tokens, and its speech next to recordings and codec.

        q2d2 evaluate-lm --tokens 'tokens/*-validation-*.parquet' --output docs/results/lm
        q2d2 evaluate-lm --recordings 'speech/piperjoe-validation-*.parquet' --clips 100 \\
            --sentences sentences.txt --asr models/moonshine --metrics dnsmos speaker --output docs/results/lm

    Writes lm.json (the summary, with command, commit and versions), lm.md (tables) and plots, and in the folder
    details, which git ignores: the audio and rows.jsonl, from which an interrupted evaluation goes on. Recordings are
    Parquet files with id, audio, text and speaker; each is measured as it is, through the codec, read from its text,
    read in the voice of another recording of the speaker, and continued after its first seconds. Rows are known by
    weights, settings and task but not by the code of the metrics: --restart measures all again.

    Args:
        tokens: Held-out token shards: files, folders or globs.
        recordings: Held-out recordings: Parquet files, folders or globs.
        clips: Largest number of clips, taken evenly from the recordings.
        sentences: Text file to read aloud, a sentence a line.
        asr: Folder of a speech recognizer (see evaluation/asr.py); adds word and letter error rates.
        metrics: What to measure: signal, dnsmos, nisqa, distillmos and speaker.
        continuation_temperature: Temperature of sampling where there is no text.
        output: Folder for the results.
        restart: Measure all again, also what an earlier run has measured.
        codec: Folder of a codec, its name on the Hub, or bundled.
        language_model: Folder of a language model, or bundled.
    """
    from ..audio.files import make_folder, write_json
    from ..evaluation.evaluate import check_metrics, prepare_output
    from ..evaluation.language_model.likelihood import measure_likelihood
    from ..evaluation.language_model.report import plot_likelihood, plot_speech, write_report
    from ..evaluation.language_model.speech import Speech, SpeechMeasures, evaluate_speech
    from ..evaluation.language_model.tasks import load_recordings, recording_tasks, sentence_tasks
    from ..evaluation.metrics import METRICS
    from ..evaluation.provenance import describe_run, require_commit
    from ..speech import TextToSpeech

    if not (tokens or recordings or sentences):
        raise ValueError("give --tokens, --recordings or --sentences")
    if clips < 1:
        raise ValueError(f"clips must be at least 1, got {clips}")
    # For speech that no recording says the same way: what it is compared with is another recording of the speaker.
    check_metrics(
        metrics or [], [name for name, one in METRICS.items() if name == "speaker" or not one.needs_reference]
    )
    require_commit(output)
    make_folder(output)
    speaker = TextToSpeech.from_pretrained(codec, language_model)
    model, frame_rate = speaker.codec, speaker.codec.config.frame_rate
    settings = options.settings(frame_rate)
    without_text = dataclasses.replace(settings, temperature=continuation_temperature)
    details = prepare_output(output, restart)
    result: dict[str, Any] = {
        "run": describe_run(),
        "parameters": speaker.language_model.model.num_parameters(),
        "codec_fingerprint": speaker.language_model.layout.codec_fingerprint,
        "generation": vars(settings) | {"continuation_temperature": continuation_temperature},
    }
    if tokens:
        result["likelihood"] = measure_likelihood(speaker.language_model, model.config, tokens)
        plot_likelihood(output / "bits_by_place.png", result)
    tasks = sentence_tasks(sentences, speaker.language_model) if sentences else []
    if recordings:
        found = load_recordings(recordings, model, clips)
        tasks = recording_tasks(found, speaker.language_model, model) + tasks
    if tasks:
        measures = SpeechMeasures(metrics or [], model.config, asr)
        speech = Speech(model, speaker.language_model, (settings, without_text), measures, details)
        result["speech"] = evaluate_speech(speech, tasks)
        plot_speech(output / "speech.png", result)
    write_json(output / "lm.json", result)
    write_report(output / "lm.md", result)
    print((output / "lm.md").read_text())
