"""Wav -> tokens -> wav as a stream, without torch: python scripts/onnx_stream.py runs/onnx in.wav out.wav"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile
import soxr


class Stream:  # encoder.onnx or decoder.onnx over the frames of one recording, as they come
    def __init__(self, path):
        self.session = onnxruntime.InferenceSession(path)
        self.metadata = self.session.get_modelmeta().custom_metadata_map
        self.state = np.zeros((1, self.session.get_inputs()[2].shape[1]), np.float32)
        self.late = self.context = int(self.metadata["context_frames"])  # frames come out so much later

    def __call__(self, frames, inside=True):
        name, mask = self.session.get_inputs()[0].name, np.full(frames.shape[:2], inside)
        result, self.state = self.session.run(None, {name: frames, "frame_mask": mask, "state": self.state})
        late, self.late = self.late, max(0, self.late - mask.size)
        return result[:, late:]

    def end(self, frames):
        behind = np.zeros((1, self.context, *frames.shape[2:]), frames.dtype)
        return np.concatenate([self(frames), self(behind, inside=False)], axis=1)


if __name__ == "__main__":
    folder, source, target = map(Path, sys.argv[1:])
    encoder, decoder = Stream(folder / "encoder.onnx"), Stream(folder / "decoder.onnx")
    rate, hop = (int(encoder.metadata[name]) for name in ("sampling_rate", "hop_length"))
    none = rest = np.empty(0, np.float32)
    with soundfile.SoundFile(source) as reader, soundfile.SoundFile(target, "w", rate, 1) as writer:
        resampler = soxr.ResampleStream(reader.samplerate, rate, 1, dtype="float32")
        for block in reader.blocks(reader.samplerate // 4, dtype="float32", always_2d=True):
            samples = np.concatenate([rest, resampler.resample_chunk(block.mean(axis=1))])
            frames, rest = np.split(samples, [len(samples) // hop * hop])
            writer.write(decoder(encoder(frames.reshape(1, -1, hop))).ravel())
        samples = np.concatenate([rest, resampler.resample_chunk(none, last=True)])
        frames = np.pad(samples, (0, -len(samples) % hop)).reshape(1, -1, hop)
        audio = decoder.end(encoder.end(frames)).ravel()
        writer.write(audio[: audio.size - -len(samples) % hop])
