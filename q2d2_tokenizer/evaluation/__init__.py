"""How good a codec is: metrics, peers, tables and pages."""

import os

# Read when librosa loads numba, whose version 0.68 compiles code for Emerald Rapids that crashes.
os.environ.setdefault("NUMBA_CPU_NAME", "generic")
