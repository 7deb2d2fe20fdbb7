"""Publishing of a codec on the Hugging Face Hub, with its code and a model card, after a test that it loads alone."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HTTPError
from transformers import AutoModel

from .export import export_checkpoint
from .feature_extraction_q2d2 import Q2D2FeatureExtractor
from .modeling_q2d2 import Q2D2Model

BUNDLED_CARD = Path(__file__).parent / "checkpoint" / "README.md"  # data, licences and limits of the bundled codec
HEADER = """---
license: apache-2.0
library_name: transformers
pipeline_tag: audio-to-audio
tags: [audio, speech, codec, audio-tokenizer, q2d2]
datasets: {datasets}
---
"""
COMPUTED = """# {repo_id}

Speech codec: {c.sampling_rate} Hz mono speech as one flat stream of integers, and back.

| tokens/s | codebook | bit/token | bit/s | samples/token | parameters | fingerprint |
|---|---|---|---|---|---|---|
| {c.frame_rate:g} | {c.codebook_size} | {c.bits_per_code:.2f} | {c.bitrate:.0f} | {c.hop_length} | {millions:.2f} M \
| `{fingerprint}` |

```python
from transformers import AutoFeatureExtractor, AutoModel

model = AutoModel.from_pretrained("{repo_id}", trust_remote_code=True)
feature_extractor = AutoFeatureExtractor.from_pretrained("{repo_id}", trust_remote_code=True)

inputs = feature_extractor(audio, sampling_rate={c.sampling_rate}, return_tensors="pt")  # audio: (N,) mono
codes = model.encode(**inputs).audio_codes  # (1, 1, T) integers
speech = model.decode(codes, num_samples=len(audio)).audio_values  # (1, 1, N)
```
"""
LOAD_ALONE = """
import json, sys
for name in ("q2d2_tokenizer", "accelerate", "datasets", "soundfile", "soxr"):
    sys.modules[name] = None  # an import of it fails, even where it is installed
import numpy as np
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioTokenization, AutoProcessor
folder, audio = sys.argv[1:]
autos = AutoModel, AutoProcessor, AutoConfig, AutoFeatureExtractor, AutoModelForAudioTokenization
model, processor, config, *_ = [auto.from_pretrained(folder, trust_remote_code=True) for auto in autos]
inputs = processor(np.load(audio), sampling_rate=config.sampling_rate, return_tensors="pt")
codes = model.encode(**inputs).audio_codes.flatten().tolist()
json.dump({"fingerprint": model.fingerprint(), "codes": codes}, sys.stdout)
"""


def synthetic_audio(sampling_rate: int) -> np.ndarray:
    """Two seconds (N,) float32 of gliding harmonics and noise."""
    phase = np.cumsum(np.linspace(0.03, 0.06, 2 * sampling_rate))
    noise = np.random.default_rng(0).standard_normal(len(phase))
    return (0.1 * sum(np.sin(k * phase) / k for k in range(1, 20)) + 0.02 * noise).astype(np.float32)


def model_card(model: Q2D2Model, repo_id: str, datasets: list[str], body: Path | None) -> str:
    """Text of the README: header, computed numbers, usage, and the text of the file `body` if there is one."""
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    computed = COMPUTED.format(c=model.config, repo_id=repo_id, millions=millions, fingerprint=model.fingerprint())
    text = body.read_text(encoding="utf-8") if body else ""
    return "\n".join(part for part in (HEADER.format(datasets=json.dumps(datasets)), computed, text) if part)


def load_alone(folder: Path, audio: np.ndarray) -> dict:
    """Fingerprint and tokens by a new process that has nothing but the folder; RuntimeError if it fails."""
    with tempfile.TemporaryDirectory() as scratch:
        np.save(Path(scratch) / "audio.npy", audio)
        env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "HF_MODULES_CACHE")}
        env |= {"HF_HOME": scratch, "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-c", LOAD_ALONE, str(folder.resolve()), "audio.npy"]
        done = subprocess.run(command, cwd=scratch, env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the exported folder does not load on its own:\n{done.stderr}")
    return json.loads(done.stdout)


def export(checkpoint: str, folder: Path, repo_id: str, datasets: list[str], body: Path | None) -> None:
    """Write the folder to upload; RuntimeError if a process without this package does not get the same tokens."""
    export_checkpoint(AutoModel.from_pretrained(checkpoint), folder, remote_code=True)
    model = AutoModel.from_pretrained(folder)
    (folder / "README.md").write_text(model_card(model, repo_id, datasets, body), encoding="utf-8")
    audio = synthetic_audio(rate := model.config.sampling_rate)
    inputs = Q2D2FeatureExtractor(sampling_rate=rate)(audio, sampling_rate=rate, return_tensors="pt")
    here = {"fingerprint": model.fingerprint(), "codes": model.encode(**inputs).audio_codes.flatten().tolist()}
    if load_alone(folder, audio) != here:
        raise RuntimeError(f"{folder} gives other tokens in a process of its own")


def upload(folder: Path, repo_id: str) -> str | None:
    """Upload the folder; returns what went wrong, if anything did."""
    if get_token() is None:
        return "there is no Hugging Face token; run `hf auth login` or set HF_TOKEN"
    try:
        api = HfApi()
        api.create_repo(repo_id, repo_type="model", exist_ok=True)
        api.upload_folder(folder_path=str(folder), repo_id=repo_id, repo_type="model", commit_message="Upload codec")
    except (OSError, HTTPError) as error:  # offline mode, no network, refused by the Hub
        return f"the Hub cannot be reached or refused: {error}"
    return None
