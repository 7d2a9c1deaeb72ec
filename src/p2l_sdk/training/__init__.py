"""Training: from votes to a P2L model. Needs the extra `train`.

Torch is searched for but not imported, so that settings and data are checked without waiting for its import.
"""

from importlib.util import find_spec

from p2l_sdk.errors import MissingExtraError

for _package in ("torch", "transformers", "peft", "accelerate"):
    if find_spec(_package) is None:
        raise MissingExtraError("training", _package, "train")
