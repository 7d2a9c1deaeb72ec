"""Training: from votes to a P2L model. Needs the extra `train`."""

from p2l_sdk.errors import MissingExtraError

try:
    import accelerate  # noqa: F401
    import peft  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401
except ImportError as error:
    raise MissingExtraError("training", error.name or "torch", "train") from None
