"""Text -> wav without torch: python scripts/onnx_speak.py runs/onnx "How are you?" out.wav"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile
from onnx_stream import Stream

from lm.text import TextTokenizer

folder, text, target = Path(sys.argv[1]), *sys.argv[2:]
decoder, model = Stream(folder / "decoder.onnx"), onnxruntime.InferenceSession(folder / "language_model.onnx")
layout, rng = json.loads((folder / "layout.json").read_text()), np.random.default_rng(0)
context, first_text = int(model.get_modelmeta().custom_metadata_map["context"]), len(layout["specials"])
BOS, AUDIO = 1, 3
pieces = TextTokenizer.load(folder).encode(text)  # needs sentencepiece, and num2words for numbers
ids = np.array([[BOS, *pieces + first_text, AUDIO], [0] * len(pieces) + [BOS, AUDIO]])  # with text, without
mask = ids > 0
durations = np.array(layout["codes_per_piece"])[pieces]  # every piece lies in the middle of its expected sound
middles = layout["codes_before_text"] + durations.cumsum() - durations / 2
positions = np.zeros_like(ids)
positions[0, 1:-1] = middles.round()
past = np.zeros([size if isinstance(size, int) else 0 for size in model.get_inputs()[3].shape], np.float32)
with soundfile.SoundFile(target, "w", layout["sampling_rate"], 1) as writer:
    for position in range(1, context - ids.shape[1]):
        inputs = {"input_ids": ids, "position_ids": positions, "attention_mask": mask, "past": past}
        codes, scores, new = model.run(None, inputs | {"guidance_scale": np.array(2.0, np.float32)})
        past = np.concatenate([past, new], axis=3)
        order = scores.argsort()[::-1]  # temperature 0.5; of the likeliest codes those of 90 % of the probability
        chances = np.exp(2 * (scores[order] - scores.max()).astype(float))
        chances *= chances.cumsum() - chances < 0.9 * chances.sum()
        code = codes[order[rng.choice(len(order), p=chances / chances.sum())]]
        if code < 0:
            break
        writer.write(decoder(np.array([[code]])).ravel())
        ids = np.full((2, 1), code + first_text + layout["text_size"])
        positions, mask = np.full((2, 1), position), np.pad(mask, ((0, 0), (0, 1)), constant_values=True)
    writer.write(decoder.end(np.empty((1, 0), np.int64)).ravel())
