"""Prompt -> tokens: the one place for it, used by training, the SDK's scorers and the Hub pipelines.

A prompt is a string or a conversation (chat messages). Only user turns are read: system, developer, assistant and
tool turns are legal and ignored, as in the paper's training data. Then, as the model's spec says: chat template
over the user turns without a generation prompt, tokens, truncation on the left, the CLS token at the very end,
padding on the right. A CLS string within the text is ordinary text: it is rewritten to `<cls>`.

Needs the `tokenizers` library; a transformers tokenizer is used for its chat template only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .errors_p2l import ModelFormatError, PromptError
from .spec_p2l import ModelSpec

Message = Mapping[str, Any]
Prompt = str | Sequence[Message]

ROLES = ("system", "developer", "user", "assistant", "tool")

# A tokenizer reads all of a text before it truncates, so it is shown the end only. Text has 1 to 6 characters a token:
# the tokens at the cut may be others, but they are far from those that are kept. Only where there are too few (of
# blanks, say) more is read, and that is bounded too: tens of megabytes must not take longer than a long prompt.
_ENOUGH, _MOST = 32, 1024  # characters for each token that is wanted


def user_turns(prompt: Prompt) -> list[str]:
    """The texts of the user turns, checked.

    Raises:
        PromptError: not text, nothing but white space, a lone surrogate, an unknown role, no user turn.
    """
    if isinstance(prompt, str):
        turns = [prompt]
    elif isinstance(prompt, Sequence) and not isinstance(prompt, bytes | bytearray):
        turns = [_content(message, i) for i, message in enumerate(prompt) if _role(message, i) == "user"]
        if not turns:
            raise PromptError("the conversation has no user turn; add {'role': 'user', 'content': ...}")
    else:
        raise PromptError(f"a prompt is a string or a list of chat messages, not {type(prompt).__name__}")
    for turn in turns:
        _check_text(turn)
    if not any(turn.strip() for turn in turns):
        raise PromptError("the prompt is empty; write what the LLM would be asked")
    return turns


def _role(message: Any, i: int) -> str:
    if isinstance(message, str):
        raise PromptError(
            "a list of strings is a batch of prompts, not one prompt: use leaderboards(prompts) or "
            "aggregate(prompts), or chat messages {'role': ..., 'content': ...}"
        )
    if not isinstance(message, Mapping) or "role" not in message or "content" not in message:
        raise PromptError(f"message {i} is not a chat message: it needs the keys 'role' and 'content'")
    if message["role"] not in ROLES:
        raise PromptError(f"message {i} has the role {message['role']!r}; legal roles: {', '.join(ROLES)}")
    return message["role"]


def _content(message: Any, i: int) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and all(isinstance(part, Mapping) and "type" in part for part in content):
        return "\n".join(str(part.get("text", "")) for part in content if part["type"] == "text")
    raise PromptError(f"the content of message {i} is neither a string nor a list of typed parts")


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(
            f"the prompt has a lone surrogate at character {error.start}, so it is no Unicode text; "
            "decode its source as UTF-8 with errors='replace'"
        ) from None


class PromptEncoder:
    """Turns prompts into token ids for one model.

    Args:
        spec: the model's spec.
        tokenizer: its `tokenizers.Tokenizer`, whose truncation, padding and special tokens are set here.
        render: from the list of user turns to the text with the chat template; needed where `spec.chat`.
    """

    def __init__(self, spec: ModelSpec, tokenizer: Any, render: Callable[[list[str]], str] | None = None) -> None:
        if spec.chat and render is None:
            raise ModelFormatError("this model lays a chat template over the prompt, and its tokenizer has none")
        self._spec = spec
        self._render: Callable[[list[str]], str] = render if spec.chat and render is not None else "\n\n".join
        self._cls: list[int] = []
        if spec.cls_token is not None:
            cls_id = tokenizer.token_to_id(spec.cls_token)
            if cls_id is None:
                raise ModelFormatError(f"the CLS token {spec.cls_token!r} is not in the tokenizer's vocabulary")
            self._cls = [cls_id]
        # A saved tokenizer may carry the padding and truncation of its last use: ours is set here, once.
        tokenizer.no_padding()
        self._limit = spec.max_prompt_tokens - len(self._cls)
        tokenizer.enable_truncation(self._limit, direction="left")
        # Where no template writes special tokens, "[SEP]" in a prompt is five characters of text.
        tokenizer.encode_special_tokens = not spec.chat
        self._tokenizer = tokenizer

    @classmethod
    def from_transformers(cls, spec: ModelSpec, tokenizer: Any) -> PromptEncoder:
        """For a transformers tokenizer (a fast one), which is left as it is."""
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ModelFormatError(f"{type(tokenizer).__name__} has no tokenizers backend; save it as a fast tokenizer")
        render = None
        if tokenizer.chat_template:

            def render(turns: list[str]) -> str:
                messages = [{"role": "user", "content": turn} for turn in turns]
                return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)

        return cls(spec, type(backend).from_str(backend.to_str()), render)

    def text(self, prompt: Prompt) -> str:
        """What the tokenizer will read, without the CLS token."""
        text = self._render(user_turns(prompt))
        if self._spec.cls_token is not None:
            text = text.replace(self._spec.cls_token, "<cls>")
        return text

    def __call__(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Token ids of each prompt, at most `max_prompt_tokens`, at least one: of a long prompt those of its end.

        Raises:
            PromptError: see `user_turns`; its `index` is the place of the prompt.
        """
        texts = []
        for i, prompt in enumerate(prompts):
            try:
                texts.append(self.text(prompt))
            except PromptError as error:
                error.index = i
                raise
        ids = self._read(texts, _ENOUGH)
        short = [i for i, row in enumerate(ids) if len(row) < self._limit and len(texts[i]) > _ENOUGH * self._limit]
        if short:
            for i, row in zip(short, self._read([texts[i] for i in short], _MOST), strict=True):
                ids[i] = row
        for i, row in enumerate(ids):
            row += self._cls
            if not row:
                unknown = PromptError("the prompt has no character that the tokenizer knows; write it in plain text")
                unknown.index = i
                raise unknown
        return ids

    def _read(self, texts: Sequence[str], characters: int) -> list[list[int]]:
        """Token ids of the end of each text: so many characters for each token that is wanted."""
        ends = [text[-characters * self._limit :] for text in texts]
        encodings = self._tokenizer.encode_batch_fast(ends, add_special_tokens=self._spec.add_special_tokens)
        return [encoding.ids for encoding in encodings]


def batches(ids: Sequence[Sequence[int]], size: int, max_tokens: int = 16384) -> Iterator[list[int]]:
    """Places of the prompts, in batches of like length: each of at most `size` prompts and, one prompt apart, at most
    `max_tokens` tokens with their padding, so that one long prompt does not stretch many short ones."""
    batch: list[int] = []
    for i in sorted(range(len(ids)), key=lambda i: len(ids[i])):
        if batch and (len(batch) == size or (len(batch) + 1) * len(ids[i]) > max_tokens):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def pad(ids: Sequence[Sequence[int]], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Right-padded `(n_prompts, longest)` int64 token ids and attention mask."""
    lengths = np.array([len(row) for row in ids])
    mask = np.arange(lengths.max()) < lengths[:, None]
    padded = np.full(mask.shape, pad_id, dtype=np.int64)
    padded[mask] = np.concatenate([np.asarray(row, dtype=np.int64) for row in ids])
    return padded, mask.astype(np.int64)
