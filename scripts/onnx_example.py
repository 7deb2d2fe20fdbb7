"""Wav -> tokens -> wav without torch: python scripts/onnx_example.py runs/onnx recording.wav reconstruction.wav"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile
import soxr

folder, source, target = sys.argv[1:]
encoder = onnxruntime.InferenceSession(Path(folder, "encoder.onnx"))
decoder = onnxruntime.InferenceSession(Path(folder, "decoder.onnx"))
rate = int(encoder.get_modelmeta().custom_metadata_map["sampling_rate"])

audio, source_rate = soundfile.read(source, dtype="float32", always_2d=True)
audio = soxr.resample(audio.mean(axis=1), source_rate, rate)  # (N,)

codes = encoder.run(None, {"input_values": audio[np.newaxis, np.newaxis]})[0]  # (1, 1, T)
audio_values = decoder.run(None, {"audio_codes": codes})[0][0, 0, : len(audio)]  # (N,)
soundfile.write(target, audio_values, rate)
print(f"{codes.shape[-1]} tokens, the first are {codes[0, 0, :8].tolist()}")
