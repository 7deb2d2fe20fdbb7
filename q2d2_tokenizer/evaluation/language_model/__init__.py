"""How good a language model of tokens is."""
