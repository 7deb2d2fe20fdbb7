"""Read a text aloud with a language model: text -> codes -> wav, written while it is generated.

    python scripts/speak.py "The print could have been placed on the carton." --output speech.wav
    python scripts/speak.py --file chapter.txt --prompt voice.wav --prompt_text "What is said in voice.wav."

A long text is spoken in parts of a few sentences, each with the same seed and the same prompt.
"""

import argparse
from pathlib import Path

from lm.generate import Generation, make_prompt
from lm.text import split_text

from ..speech import WavWriter, add_options, load_models, make_settings, read_codes, speak_into


def parse_arguments(argv: list[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """The parser, for its errors, and the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="?", help="English text")
    parser.add_argument("--file", type=Path, help="text file to read instead")
    parser.add_argument("--output", type=Path, default=Path("speech.wav"), help="wav file to write")
    parser.add_argument("--prompt", type=Path, help="recording (or token file) of the voice to speak with")
    parser.add_argument("--prompt_text", default="", help="what the prompt says")
    parser.add_argument("--part_characters", type=int, default=150, help="most text spoken at a time")
    add_options(parser, max_seconds=20.0)
    args = parser.parse_args(argv)
    if (args.text is None) == (args.file is None):
        parser.error("give either a text or --file")
    return parser, args


def speak(args: argparse.Namespace) -> None:
    """Load, generate part after part, write."""
    codec, language_model = load_models(args)
    text = args.file.read_text() if args.file else args.text
    known = language_model.text.known if language_model.text else ()
    parts = split_text(text, args.part_characters, known) or [text]  # what cannot be read is refused below
    codes = read_codes(args.prompt, codec, language_model) if args.prompt else None
    prompts = [make_prompt(language_model, part, codes, args.prompt_text) for part in parts]
    settings = make_settings(args, codec.config.frame_rate)
    with WavWriter(args.output, codec.config.sampling_rate) as file:
        for number, (part, prompt) in enumerate(zip(parts, prompts, strict=True), start=1):
            spoken = speak_into(file.write, codec, Generation(language_model, [prompt], settings, [args.prompt_text]))
            print(f"{number}/{len(parts)}  {spoken}  {part!r}", flush=True)
    print(f"written {args.output}")


def main(argv: list[str] | None = None) -> None:
    """Parse the arguments and speak; what cannot be used is reported in a line."""
    parser, args = parse_arguments(argv)
    try:
        speak(args)
    except (OSError, ValueError, RuntimeError) as error:
        parser.error(str(error))
