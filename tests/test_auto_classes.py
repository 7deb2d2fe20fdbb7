"""The Auto classes of transformers find the codec, whatever is imported first."""

import subprocess
import sys

import pytest

USE = """
import sys
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioTokenization, AutoProcessor
import q2d2_tokenizer
autos = AutoConfig, AutoModel, AutoModelForAudioTokenization, AutoFeatureExtractor, AutoProcessor
print(*(type(auto.from_pretrained(q2d2_tokenizer.default_checkpoint())).__name__ for auto in autos))
if "lm" in sys.modules:
    assert AutoConfig.for_model("pair_llama").model_type == "pair_llama"
"""
LIGHT = "import sys, q2d2_tokenizer; assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"


def found_after(first: str) -> str:
    """Classes that a new process finds after the imports `first`."""
    done = subprocess.run([sys.executable, "-c", f"{first}\n{USE}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "first",
    [
        f"{LIGHT}; import lm; assert not {{'torch', 'transformers'}} & set(sys.modules)",
        *(
            pytest.param(text, marks=pytest.mark.slow)
            for text in [
                "import transformers",
                "from transformers import AutoModel",
                f"{LIGHT}; from transformers import AutoProcessor",
                f"{LIGHT}; from transformers import Trainer",
                f"{LIGHT}; from transformers import PreTrainedModel",
                "import q2d2_tokenizer.encoders",
                "import q2d2_tokenizer.configuration_q2d2",
                "import q2d2_tokenizer.modeling_q2d2",
                "import q2d2_tokenizer.training.codec",
                "import q2d2_tokenizer.speech",
                "import lm.pairs",
                "from transformers import AutoModel; import lm",
            ]
        ),
    ],
)
def test_auto_classes_find_the_codec(first):
    assert found_after(first) == "Q2D2Config Q2D2Model Q2D2Model Q2D2FeatureExtractor Q2D2Processor"
