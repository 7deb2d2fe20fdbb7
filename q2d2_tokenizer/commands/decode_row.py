"""Audio of one row of a token data set.

python scripts/decode_row.py tokens 1272-128104-0000 --output row.wav
"""

import argparse
import io
import sys
from pathlib import Path

import soundfile
import torch
from transformers.utils import logging as transformers_logging

from ..audio.files import write_atomically
from ..bundled import default_checkpoint
from ..corpus.shards import find_row
from ..modeling_q2d2 import Q2D2Model


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments, decode and write a wav file; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="the data set, as scripts/tokenize_dataset.py wrote it")
    parser.add_argument("id", help="of the row")
    parser.add_argument("--output", type=Path, required=True, help="wav file to write")
    parser.add_argument("--checkpoint", default=default_checkpoint(), help="codec that made the tokens")
    args = parser.parse_args(argv)
    transformers_logging.disable_progress_bar()
    try:
        model = Q2D2Model.from_pretrained(args.checkpoint).eval()
        tokens = find_row(args.folder, args.id, model.fingerprint())
        codes = torch.from_numpy(tokens.audio_codes).long().view(1, 1, -1)
        audio = model.decode(codes, num_samples=tokens.num_samples).audio_values
        content = io.BytesIO()
        soundfile.write(content, audio[0, 0].numpy(), tokens.sampling_rate, format="WAV", subtype="PCM_16")
        write_atomically(args.output, content.getvalue())
    except (ValueError, OSError, KeyError) as error:
        print(f"decode_row: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 2
    print(f"wrote {args.output}, {tokens.num_samples / tokens.sampling_rate:.2f} s")
    return 0
