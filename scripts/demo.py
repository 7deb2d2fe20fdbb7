"""Encode a recording to tokens and decode it again; prints what happened and writes the results.

    python scripts/demo.py [recording] [--output folder]

Writes tokens.q2d2, reconstruction.wav and spectrogram.png (original above reconstruction).
"""

import argparse
import importlib.util
import statistics
import timeit
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch

from q2d2_tokenizer import Q2D2Model, default_checkpoint, read_audio, sample_recording
from q2d2_tokenizer.audio.token_file import TokenFile, save_tokens
from q2d2_tokenizer.evaluation.metrics import pesq_wb, stoi
from q2d2_tokenizer.evaluation.plot import load_pyplot


def plot_spectrograms(path: Path, titles: list[str], waveforms: list[np.ndarray], sampling_rate: int) -> None:
    """One spectrogram above the other, on one colour scale."""
    plt = load_pyplot()
    figure, axes = plt.subplots(len(waveforms), 1, figsize=(10, 6), sharex=True, layout="constrained")
    for axis, title, waveform in zip(axes, titles, waveforms, strict=True):
        axis.specgram(waveform + 1e-7, NFFT=1024, noverlap=768, Fs=sampling_rate, vmin=-140, vmax=-30)
        axis.set(title=title, ylabel="Hz")
    axes[-1].set_xlabel("seconds")
    figure.savefig(path, dpi=110)


def median_seconds(function: Callable[[], object]) -> float:
    """Median duration of five calls, after one to warm up."""
    return statistics.median(timeit.repeat(function, number=1, repeat=6)[1:])


def main(argv: list[str] | None = None) -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "recording", type=Path, nargs="?", default=Path(sample_recording()), help="wav, flac, ogg, opus or mp3"
    )
    parser.add_argument("--codec", default=default_checkpoint(), help="folder or Hub name; the bundled one if left out")
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder for the results")
    args = parser.parse_args(argv)

    model = Q2D2Model.from_pretrained(args.codec).eval()
    config = model.config
    try:
        audio = read_audio(args.recording, config.sampling_rate)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    input_values = torch.from_numpy(audio).view(1, 1, -1)
    codes = model.encode(input_values).audio_codes
    decoded = model.decode(codes, num_samples=len(audio)).audio_values.flatten().numpy()

    args.output.mkdir(parents=True, exist_ok=True)
    tokens = TokenFile(codes.flatten().numpy(), config.sampling_rate, len(audio), model.fingerprint())
    save_tokens(args.output / "tokens.q2d2", tokens)
    soundfile.write(args.output / "reconstruction.wav", decoded, config.sampling_rate)
    titles = ["original", f"reconstruction, {config.bitrate / 1000:.2f} kbit/s"]
    plot_spectrograms(args.output / "spectrogram.png", titles, [audio, decoded], config.sampling_rate)

    seconds = len(audio) / config.sampling_rate
    encode_seconds = median_seconds(lambda: model.encode(input_values))
    decode_seconds = median_seconds(lambda: model.decode(codes, num_samples=len(audio)))
    print(f"recording        {args.recording.name}, {seconds:.2f} s")
    print(f"tokens           {codes.numel()} of {config.codebook_size}, {config.frame_rate:g} tokens/s")
    print(f"bit rate         {config.bitrate:.0f} bit/s (16-bit samples: {16 * config.sampling_rate} bit/s)")
    print(f"first tokens     {codes[0, 0, :12].tolist()}")
    print(f"speed            encode {seconds / encode_seconds:.0f}x, decode {seconds / decode_seconds:.0f}x real time")
    quality = "a recording of less than half a second is too short to be rated"
    if seconds >= 0.5:
        quality = f"STOI {stoi(audio, decoded, config.sampling_rate):.3f} against the original"
    if seconds >= 0.5 and importlib.util.find_spec("pesq"):  # part of [eval]: it needs a C compiler
        quality += f", PESQ-WB {pesq_wb(audio, decoded, config.sampling_rate):.2f}"
    print(f"quality          {quality}")
    print(f"written          {', '.join(sorted(str(path) for path in args.output.iterdir()))}")


if __name__ == "__main__":
    main()
