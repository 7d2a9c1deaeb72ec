"""Errors of the model code. All are `ValueError`s, so that users of plain transformers can catch them too."""


class P2LError(ValueError):
    """Base class of every error that P2L raises on purpose. The message says what is wrong and how to fix it."""


class PromptError(P2LError):
    """A prompt that cannot be scored: empty, not text, or a malformed conversation.

    Attributes:
        index: position of the prompt in its batch, from 0; None for a single prompt.
    """

    index: int | None = None

    def __str__(self) -> str:
        place = "" if self.index is None else f"prompt {self.index}: "
        return place + super().__str__()


class ModelFormatError(P2LError):
    """A configuration or a folder that does not describe a whole P2L model."""


class CostError(P2LError):
    """A cost is missing, is not a finite number >= 0, or is given for an LLM that the model does not know."""
