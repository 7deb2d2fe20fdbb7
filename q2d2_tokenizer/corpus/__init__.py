"""Corpora to token shards, and back."""
