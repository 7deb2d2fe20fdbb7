"""Audio and token files: reading, writing, and recordings of any length."""
