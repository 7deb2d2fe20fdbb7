"""Keys and values of past tokens, in memory that grows in steps."""

import inspect

from torch import Tensor
from transformers import LlamaConfig, LlamaModel
from transformers.cache_utils import Cache, DynamicLayer

# What Llama calls its cache: transformers 5.24 has renamed it.
CACHE_ARGUMENT = "cache" if "cache" in inspect.signature(LlamaModel.forward).parameters else "past_key_values"


class GrowingLayer(DynamicLayer):
    """Keys and values of one layer, written into memory that doubles when it is full.

    The layer of transformers makes room by copying the whole past for every token.
    """

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Append keys and values (B, heads, S, C); returns all there are."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._memory = (key_states[:, :, :0], value_states[:, :, :0])
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if end > self._memory[0].shape[-2]:
            keys, values = self._memory
            self._memory = (_grown(keys[:, :, :start], 2 * end), _grown(values[:, :, :start], 2 * end))
        for memory, states in zip(self._memory, (key_states, value_states), strict=True):
            memory[:, :, start:end] = states
        self.keys, self.values = (memory[:, :, :end] for memory in self._memory)
        return self.keys, self.values


def _grown(states: Tensor, size: int) -> Tensor:
    """The states (B, heads, S, C) at the start of memory (B, heads, size, C)."""
    memory = states.new_empty((*states.shape[:2], size, states.shape[-1]))
    memory[:, :, : states.shape[-2]] = states
    return memory


def make_cache(config: LlamaConfig) -> Cache:
    """An empty cache for a model of that configuration."""
    return Cache(layers=[GrowingLayer() for _ in range(config.num_hidden_layers)])
