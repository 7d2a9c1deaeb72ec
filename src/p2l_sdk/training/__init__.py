"""Training: from votes to a P2L model. Needs the extra `train`.

Torch is looked for, not imported: settings and data are checked in a fraction of the time that its import takes.
"""

from importlib.util import find_spec

from p2l_sdk.errors import MissingExtraError

for _package in ("torch", "transformers", "peft", "accelerate"):
    if find_spec(_package) is None:
        raise MissingExtraError("training", _package, "train")
