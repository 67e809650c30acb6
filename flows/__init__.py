"""The order of the stages, and the two doors to them."""

import os

# Idle OpenMP threads sleep rather than spin: where two stages, or anything else, share the cores, spinning makes the
# small tensors here several times slower. It has to be said before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

PARENT = os.getppid()
"""Who started this process, as near to its start as we can look; importing torch and DVC takes seconds."""
