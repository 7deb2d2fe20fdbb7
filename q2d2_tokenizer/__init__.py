"""Q2D2: speech as one flat stream of integers, and back."""

from .configuration_q2d2 import Q2D2Config
from .modeling_q2d2 import Q2D2DecoderOutput, Q2D2EncoderOutput, Q2D2Model, Q2D2Output
