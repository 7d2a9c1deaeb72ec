"""Errors of the model floor. All are `ValueError`s, so users of plain transformers can catch them too."""


class P2LError(ValueError):
    """Base of every error that P2L raises on purpose. The text names the thing and the remedy."""


class PromptError(P2LError):
    """A prompt that cannot be scored: empty, not text, or a malformed conversation.

    Attributes:
        index: its place in a batch, from 0; None for a single prompt.
    """

    index: int | None = None

    def __str__(self) -> str:
        place = "" if self.index is None else f"prompt {self.index}: "
        return place + super().__str__()


class ModelFormatError(P2LError):
    """A configuration or a folder that does not describe a whole P2L model."""


class CostError(P2LError):
    """A cost that is no finite number >= 0, or that is given for an LLM the model does not know, or missing."""
