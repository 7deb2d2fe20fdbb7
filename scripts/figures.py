"""Draw the figures of the documentation from the bundled codec: python scripts/figures.py [--output docs/figures]"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from q2d2_tokenizer import Q2D2Model, default_checkpoint, read_audio, sample_recording
from q2d2_tokenizer.quantizers import ROUNDING_MARGIN, LatticeQuantizer

SAMPLES = Path(__file__).parents[1] / "docs" / "samples"
BLUE, ORANGE, RED, GREY = "#3b6ea8", "#e08a2e", "#c0392b", "#d9dde3"
PALE_BLUE, PALE_ORANGE = "#c4d6ea", "#f7dcbd"


def draw_codec(model: Q2D2Model, path: Path, start: float = 0.45, num_frames: int = 24) -> None:
    """Draw a waveform, its tokens and the decoded waveform, `num_frames` frames from second `start` on."""
    audio = read_audio(sample_recording(), model.config.sampling_rate)
    codes = model.encode(torch.from_numpy(audio).view(1, 1, -1)).audio_codes
    decoded = model.decode(codes, num_samples=len(audio)).audio_values.flatten().numpy()
    rate, hop = model.config.sampling_rate, model.config.hop_length
    first = round(start * rate / hop)
    samples = slice(first * hop, (first + num_frames) * hop)
    times = np.arange(num_frames * hop) / hop  # in frames

    figure, axes = plt.subplots(3, 1, figsize=(8, 3.2), height_ratios=[2, 1.3, 2])
    peak = 1.1 * max(abs(audio[samples]).max(), abs(decoded[samples]).max())
    for ax, values, name in ((axes[0], audio, "recording"), (axes[2], decoded, "decoded")):
        ax.plot(times, values[samples], color=BLUE, linewidth=0.6)
        ax.set_ylim(-peak, peak)
        ax.set_ylabel(name)
    window = codes[0, 0, first : first + num_frames].tolist()
    for i, code in enumerate(window):
        axes[1].add_patch(Rectangle((i + 0.06, 0), 0.88, 1, color=PALE_ORANGE))
        axes[1].text(i + 0.5, 0.5, str(code), rotation=90, ha="center", va="center", fontsize=8)
    axes[1].set_ylabel("tokens")
    for ax in axes:
        ax.set_xlim(0, num_frames)
        ax.set_xticks([])
        ax.set_yticks([])
    axes[2].set_xlabel(f"{1000 * num_frames * hop / rate:.0f} ms: {num_frames} tokens of {hop} samples each")
    _save(figure, path)


def draw_streaming(model: Q2D2Model, path: Path, chunks: tuple[int, int] = (38, 22)) -> None:
    """Draw which frames every stage of the encoder computes in two chunks, and what the cache carries over."""
    stages = model.encoder.frame_stages()
    assert stages is not None, "the bundled encoder streams"
    contexts = [context for _, context in stages if context.size]
    names = ["audio", "log-mel spectrum", "input convolution", *(f"ConvNeXt block {i + 1}" for i in range(9))]
    first, total = chunks[0], sum(chunks)
    figure, ax = plt.subplots(figsize=(9, 4.0))
    for row, lag in enumerate(np.cumsum([0, *(context.after for context in contexts)]).tolist()):
        y, border = -row, first - lag
        _frames(ax, y, range(0, border), PALE_BLUE)
        _frames(ax, y, range(border, total - lag), PALE_ORANGE)
        name = names[row] if row < len(contexts) else f"{names[row]}, tokens"
        ax.text(-0.8, y + 0.35, name, ha="right", va="center", fontsize=9)
        if row < len(contexts):
            width = contexts[row].size
            box = Rectangle((border - width, y), width, 0.7, fill=False, hatch="////", edgecolor=BLUE, linewidth=1.2)
            ax.add_patch(box)
    last, lag = -len(contexts), sum(context.after for context in contexts)
    ax.annotate("", (first, last - 0.35), (first - lag, last - 0.35), arrowprops={"arrowstyle": "<->", "color": RED})
    milliseconds = 1000 * lag * model.config.hop_length / model.config.sampling_rate
    latency = f"latency {lag} frames = {milliseconds:.0f} ms"
    ax.text(first + 0.5, last - 0.35, latency, va="center", color=RED, fontsize=9)
    ax.plot([first, first], [last - 0.6, 1.4], color=RED, linewidth=1, linestyle="--")
    ax.text(first / 2, 1.1, "computed with chunk 1", ha="center", fontsize=9, color=BLUE)
    ax.text(first + chunks[1] / 2, 1.1, "computed with chunk 2", ha="center", fontsize=9, color=ORANGE)
    caption = "hatched: the cache, the last 2 x context frames that went into each stage; chunk 2 begins with them"
    ax.text(total / 2, last - 1.2, caption, ha="center", fontsize=9, color=BLUE)
    ax.set_xlim(-14, total + 0.5)
    ax.set_ylim(last - 1.6, 1.7)
    ax.axis("off")
    _save(figure, path)


def draw_recheck(model: Q2D2Model, path: Path) -> None:
    """Draw a latent near the border of its lattice cell, and the window that is computed again in float64."""
    figure, (cells, frames) = plt.subplots(1, 2, figsize=(10, 3.6), width_ratios=[1, 2.1])
    assert isinstance(model.quantizer, LatticeQuantizer)
    _draw_cells(cells, model.quantizer, len(model.config.levels))
    context = model.encoder.context_frames
    assert context is not None, "the bundled encoder has a finite context"
    size, block, uncertain = context.size + 1, 25, 31
    for y, name in ((3, "audio, in blocks"), (2, "float32"), (0, "float64")):
        frames.text(-0.8, y + 0.35, name, ha="right", va="center", fontsize=9)
    for start in (0, block):
        colour = PALE_BLUE if start == 0 else PALE_ORANGE
        for y in (3, 2):
            _frames(frames, y, range(start, start + block), colour)
    window = range(uncertain - context.before, uncertain + context.after + 1)
    _frames(frames, 0, window, GREY)
    _frames(frames, 2, range(uncertain, uncertain + 1), RED)
    _frames(frames, 0, range(uncertain, uncertain + 1), RED)
    frames.add_patch(Rectangle((window[0], 3), size, 0.7, fill=False, edgecolor=RED, linewidth=1.5))
    for x in (window[0], window[-1] + 1):
        frames.plot([x, x], [0.7, 3], color=RED, linewidth=0.8, linestyle=":")
    arrow = {"arrowstyle": "->", "color": RED}
    frames.annotate("", (uncertain + 0.5, 1.95), (uncertain + 0.5, 0.75), arrowprops=arrow)
    frames.text(uncertain + 1.2, 1.25, "this token is used", fontsize=9, color=RED, va="center")
    frames.text(uncertain + 0.5, -0.6, f"{context.before} + 1 + {context.after} frames", ha="center", fontsize=9)
    frames.set_title("Only the window around that frame is computed again", fontsize=10)
    frames.set_xlim(-11, 2 * block + 0.5)
    frames.set_ylim(-1, 4)
    frames.axis("off")
    _save(figure, path)


def _draw_cells(ax: Axes, quantizer: LatticeQuantizer, num_channels: int) -> None:
    """Draw the cells of the first group of channels, a vector inside its cell and one near a border."""
    axis = np.linspace(-1.3, 1.3, 420)
    grid = torch.from_numpy(np.stack(np.meshgrid(axis, axis), axis=-1)).float()  # (420, 420, 2)
    vectors = torch.zeros(*grid.shape[:2], num_channels)
    vectors[..., : grid.shape[-1]] = grid
    points, indices = quantizer.lattices.nearest(vectors)
    ax.imshow(_borders(indices[..., 0].numpy()), extent=(-1.3, 1.3, -1.3, 1.3), origin="lower", cmap="Greys", vmax=2)
    centres = points[..., :2].reshape(-1, 2).unique(dim=0).numpy()
    ax.scatter(centres[:, 0], centres[:, 1], color="black", s=12)
    half = 0.07
    marks = ((-0.05, 0.1), -0.5, BLUE, "certain"), ((0.27, 0.27), 0.42, RED, "near a tie")
    for (x, y), shift, colour, text in marks:
        ax.add_patch(Rectangle((x - half, y - half), 2 * half, 2 * half, fill=False, edgecolor=colour, linewidth=1.5))
        ax.scatter([x], [y], color=colour, s=8, zorder=3)
        arrow = {"arrowstyle": "-", "color": colour}
        ax.annotate(text, (x, y), (x, y + shift), color=colour, fontsize=9, ha="center", arrowprops=arrow)
    ax.set_xlim(-1.3, 1.3)
    ax.set_ylim(-1.3, 1.3)
    size = f"drawn {half / ROUNDING_MARGIN:,.0f} times as large"
    ax.set_title(f"Box of ±{ROUNDING_MARGIN:g} in a cell\n({size})", fontsize=10)
    ax.set_xticks([])
    ax.set_yticks([])


def _borders(indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 where a pixel (H, W) belongs to another cell than its right or upper neighbour, 0 elsewhere."""
    edges = np.zeros(indices.shape)
    edges[:, :-1] += indices[:, :-1] != indices[:, 1:]
    edges[:-1] += indices[:-1] != indices[1:]
    return np.minimum(edges, 1)


def draw_spectrograms(model: Q2D2Model, before: Path, path: Path) -> None:
    """Draw spectrograms of a recording, of the audio file that an earlier codec made of it, and of this codec."""
    rate = model.config.sampling_rate
    audio = read_audio(sample_recording(), rate)
    decoded = model(torch.from_numpy(audio).view(1, 1, -1)).audio_values.flatten().numpy()
    rows = [("recording", audio), ("version 0.1", read_audio(before, rate)), ("now", decoded)]
    figure, axes = plt.subplots(len(rows), 1, figsize=(5, 4.2), sharex=True)
    for ax, (name, samples) in zip(axes, rows, strict=True):
        ax.specgram(samples, NFFT=1024, Fs=rate, noverlap=768, vmin=-130, vmax=-40, cmap="magma", rasterized=True)
        ax.set(ylim=(0, 8000), ylabel=f"{name}, Hz")
    axes[-1].set_xlabel("seconds")
    _save(figure, path)


def _frames(ax: Axes, y: float, positions: range, colour: str) -> None:
    """Draw one box for every frame."""
    for x in positions:
        ax.add_patch(Rectangle((x + 0.06, y), 0.88, 0.7, facecolor=colour, linewidth=0))


def _save(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def main(argv: list[str] | None = None) -> None:
    """Draw all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/figures"), help="folder of the PNG files")
    args = parser.parse_args(argv)
    args.output.mkdir(parents=True, exist_ok=True)
    model = Q2D2Model.from_pretrained(default_checkpoint()).eval()
    draw_codec(model, args.output / "codec.png")
    draw_streaming(model, args.output / "streaming.png")
    draw_recheck(model, args.output / "recheck.png")
    draw_spectrograms(model, SAMPLES / "arctic_a0009_q2d2_0.1.flac", args.output / "spectrograms.png")


if __name__ == "__main__":
    main()
