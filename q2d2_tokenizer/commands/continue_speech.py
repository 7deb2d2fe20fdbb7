"""Go on speaking from a recording: audio -> codes -> more codes -> wav, written while it is generated.

    python scripts/continue_speech.py recording.wav --prompt_seconds 3 --output continued.wav

The wav holds the recording as the codec gives it back, then its continuation.
"""

import argparse
from pathlib import Path

from lm.generate import Generation, make_prompt

from ..speech import (
    CONTINUATION_TEMPERATURE,
    WavWriter,
    add_options,
    load_models,
    make_settings,
    positive,
    read_codes,
    speak_into,
)


def continue_speech(args: argparse.Namespace) -> None:
    """Load, generate, write."""
    codec, language_model = load_models(args)
    codes = read_codes(args.recording, codec, language_model)
    if args.prompt_seconds:
        codes = codes[: max(1, int(args.prompt_seconds * codec.config.frame_rate))]
    prompt = make_prompt(language_model, codes=codes)
    generation = Generation(language_model, [prompt], make_settings(args, codec.config.frame_rate))
    with WavWriter(args.output, codec.config.sampling_rate) as file:
        spoken = speak_into(file.write, codec, generation, before=codes)
    print(f"{len(codes) / codec.config.frame_rate:.1f} s of {args.recording.name}, then {spoken}")
    print(f"written {args.output}")


def main(argv: list[str] | None = None) -> None:
    """Parse the arguments and continue; what cannot be used is reported in a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path, help="audio file or token file")
    parser.add_argument("--prompt_seconds", type=positive, help="use its first seconds; all of it if left out")
    parser.add_argument("--output", type=Path, default=Path("continued.wav"), help="wav file to write")
    add_options(parser, max_seconds=10.0)
    parser.set_defaults(temperature=CONTINUATION_TEMPERATURE)
    args = parser.parse_args(argv)
    try:
        continue_speech(args)
    except (OSError, ValueError, RuntimeError) as error:
        parser.error(str(error))
