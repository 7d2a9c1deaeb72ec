"""From prompts to tokens: the only implementation, used by training, the SDK's scorers and the Hub pipelines.

A prompt is a string or a conversation (chat messages). Only user turns are read, and only these need a content: system,
developer, assistant, function and tool turns are legal but ignored, as in the paper's training data. The model's spec
determines the rest: the chat template is applied to the user turns without a generation prompt, the tokens are
truncated on the left, the CLS token is appended, and batches are padded on the right. A CLS string within the text is
ordinary text: it is rewritten to `<cls>`.

Needs the `tokenizers` library; a transformers tokenizer is only used for its chat template.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .errors_p2l import ModelFormatError, PromptError
from .spec_p2l import ModelSpec

Message = Mapping[str, Any]
Prompt = str | Sequence[Message]

ROLES = ("system", "developer", "user", "assistant", "function", "tool")

# A tokenizer reads the whole text before it truncates, so it is given only the end. Text has 1 to 6 characters per
# token: tokens at the cut may differ, but they are far from those that are kept. If there are too few tokens (for
# instance because of long runs of blanks), more text is read, but not all: tens of megabytes must not take longer than
# a long prompt.
_ENOUGH, _MOST = 32, 1024  # characters read per token wanted


def user_turns(prompt: Prompt) -> list[str]:
    """The validated texts of the user turns.

    Raises:
        PromptError: the prompt is not text, is only white space, contains a lone surrogate or an unknown role, or has
            no user turn.
    """
    if isinstance(prompt, str):
        turns = [prompt]
    elif type(prompt) is CheckedPrompt:  # faster than isinstance of an abstract class
        return prompt.turns
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


class CheckedPrompt(Sequence[Message]):
    """A prompt that has been checked: the conversation of its user turns, which `user_turns` does not check again.

    Args:
        prompt: the prompt.

    Attributes:
        turns: the texts of its user turns.

    Raises:
        PromptError: see `user_turns`.
    """

    __slots__ = ("turns",)

    def __init__(self, prompt: Prompt) -> None:
        self.turns = user_turns(prompt)

    def __len__(self) -> int:
        return len(self.turns)

    def __getitem__(self, place: Any) -> Any:
        return [{"role": "user", "content": turn} for turn in self.turns][place]


def _role(message: Any, i: int) -> str:
    if isinstance(message, str):
        raise PromptError(
            "a list of strings is a batch of prompts, not one prompt: use leaderboards(prompts) or "
            "aggregate(prompts), or chat messages {'role': ..., 'content': ...}"
        )
    if not isinstance(message, Mapping) or "role" not in message:
        raise PromptError(_NO_MESSAGE.format(i))
    if message["role"] not in ROLES:
        raise PromptError(f"message {i} has the role {message['role']!r}; legal roles: {', '.join(ROLES)}")
    return message["role"]


_NO_MESSAGE = "message {} is not a chat message: it needs the keys 'role' and 'content'"


def _content(message: Any, i: int) -> str:
    """The text of a user turn: its content, or what its text parts hold. A null stands for nothing: tables with nested
    columns write it for the keys that other parts have."""
    if "content" not in message:
        raise PromptError(_NO_MESSAGE.format(i))
    content = message["content"]
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or not all(
        part is None or (isinstance(part, Mapping) and "type" in part) for part in content
    ):
        raise PromptError(f"the content of message {i} is neither a string nor a list of typed parts")
    parts = [part for part in content if part is not None and part["type"] == "text"]
    texts = [part["text"] for part in parts if part.get("text") is not None]
    for text in texts:
        if not isinstance(text, str):
            raise PromptError(f"message {i} has a part whose text is {type(text).__name__}; it must be a string")
    return "\n".join(texts)


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(
            f"the prompt has a lone surrogate at character {error.start}, so it is no Unicode text; decode its source "
            "as UTF-8 with errors='replace' or, if it came from an escape in JSON (half of an emoji, \\ud83d), use "
            "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
        ) from None


class PromptEncoder:
    """Turns prompts into token ids for one model.

    Args:
        spec: the model's spec.
        tokenizer: its `tokenizers.Tokenizer`, whose truncation, padding and special tokens are set here.
        render: turns the list of user turns into text with the chat template; required if `spec.chat`.
        n_embeddings: number of tokens for which the model has an embedding; None for all of the tokenizer.

    Attributes:
        n_cut: how many of the prompts so far had more tokens than the model reads.

    Raises:
        ModelFormatError: the chat template or the CLS token is missing, or the CLS token has no embedding.
    """

    def __init__(
        self,
        spec: ModelSpec,
        tokenizer: Any,
        render: Callable[[list[str]], str] | None = None,
        n_embeddings: int | None = None,
    ) -> None:
        if spec.chat and render is None:
            raise ModelFormatError("this model lays a chat template over the prompt, and its tokenizer has none")
        self._spec = spec
        self._render: Callable[[list[str]], str] = render if spec.chat and render is not None else "\n\n".join
        self._cls: list[int] = []
        if spec.cls_token is not None:
            cls_id = tokenizer.token_to_id(spec.cls_token)
            if cls_id is None:
                raise ModelFormatError(f"the CLS token {spec.cls_token!r} is not in the tokenizer's vocabulary")
            if n_embeddings is not None and cls_id >= n_embeddings:
                raise ModelFormatError(
                    f"the CLS token {spec.cls_token!r} has the id {cls_id}, and the model has {n_embeddings} embeddings"
                )
            self._cls = [cls_id]
        # a saved tokenizer may carry the padding and truncation of its last use
        tokenizer.no_padding()
        self._limit = spec.max_prompt_tokens - len(self._cls)
        tokenizer.enable_truncation(self._limit, direction="left")
        # without a template that writes special tokens, "[SEP]" in a prompt is five characters of text
        tokenizer.encode_special_tokens = not spec.chat
        self._tokenizer = tokenizer
        # some tokenizers have more tokens than the model (a placeholder for images, padding): most prompts have none
        self._end = n_embeddings
        self.n_cut = 0

    @classmethod
    def from_transformers(cls, spec: ModelSpec, tokenizer: Any, n_embeddings: int | None = None) -> PromptEncoder:
        """An encoder from a fast transformers tokenizer, which is not modified; arguments as in the class. Its chat
        template, if the model lays one over the prompt, runs within the limits of `template_p2l`."""
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ModelFormatError(f"{type(tokenizer).__name__} has no tokenizers backend; save it as a fast tokenizer")
        render = None
        if spec.chat:
            from .template_p2l import limited_renderer  # Jinja, which a static model does without

            render = limited_renderer(tokenizer)
        return cls(spec, type(backend).from_str(backend.to_str()), render, n_embeddings)

    @property
    def spec(self) -> ModelSpec:
        """The model's spec."""
        return self._spec

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, as it is set here; it is not to be changed."""
        return self._tokenizer

    def text(self, prompt: Prompt) -> str:
        """The input text of the tokenizer, without the CLS token."""
        text = self._render(user_turns(prompt))
        if self._spec.cls_token is not None:
            text = text.replace(self._spec.cls_token, "<cls>")
        return text

    def __call__(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Token ids of each prompt: at least one, and at most the last `max_prompt_tokens`.

        Raises:
            PromptError: see `user_turns`, or the tokenizer knows no character of the prompt, or the model does not know
                a token; its `index` is the position of the prompt.
        """
        texts = []
        for i, prompt in enumerate(prompts):
            try:
                texts.append(self.text(prompt))
            except PromptError as error:
                error.index = i
                raise
        read = self._read(texts, _ENOUGH)
        few = (i for i, (row, _) in enumerate(read) if len(row) < self._limit)
        short = [i for i in few if len(texts[i]) > _ENOUGH * self._limit]
        if short:
            for i, found in zip(short, self._read([texts[i] for i in short], _MOST), strict=True):
                read[i] = found
        ids = [row for row, _ in read]
        for i, row in enumerate(ids):
            row += self._cls
            if not row:
                unknown = PromptError("the prompt has no character that the tokenizer knows; write it in plain text")
                unknown.index = i
                raise unknown
            if self._end is not None and max(row) >= self._end:
                token = self._tokenizer.id_to_token(max(row))
                unknown = PromptError(
                    f"the prompt has the token {token!r}, which the model does not know; leave it out"
                )
                unknown.index = i
                raise unknown
        self.n_cut += sum(cut for _, cut in read)
        return ids

    def _read(self, texts: Sequence[str], characters: int) -> list[tuple[list[int], bool]]:
        """Token ids of the end of each text, its last `characters` characters per token of the limit, and whether they
        are as many as the limit and there is more in front of them."""
        ends = [text[-characters * self._limit :] for text in texts]
        try:
            encodings = self._tokenizer.encode_batch_fast(ends, add_special_tokens=self._spec.add_special_tokens)
        except BaseException as error:  # a panic of the tokenizers library is no Exception
            if type(error).__name__ != "PanicException" and not isinstance(error, Exception):
                raise
            raise PromptError(f"the model's tokenizer cannot read the prompt: {str(error)[:200]}") from None
        return [
            (row.ids, len(row.ids) == self._limit and (bool(row.overflowing) or len(end) < len(text)))
            for row, end, text in zip(encodings, ends, texts, strict=True)
        ]


def batches(ids: Sequence[Sequence[int]], size: int, max_tokens: int = 16384) -> Iterator[list[int]]:
    """Indices of the prompts in batches of similar length, each of at most `size` prompts and, unless it is a single
    prompt, `max_tokens` tokens including padding, so that one long prompt does not pad many short ones."""
    batch: list[int] = []
    for i in sorted(range(len(ids)), key=lambda i: len(ids[i])):
        if batch and (len(batch) == size or (len(batch) + 1) * len(ids[i]) > max_tokens):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def padding_id(tokenizer: Any, n_embeddings: int | None) -> int:
    """The id that fills up short prompts. As it is never attended, any id does if the tokenizer has none for padding,
    or one without an embedding."""
    pad_id = tokenizer.pad_token_id
    return 0 if pad_id is None or (n_embeddings is not None and pad_id >= n_embeddings) else pad_id


def pad(ids: Sequence[Sequence[int]], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Right-padded `(n_prompts, longest)` int64 token ids and attention mask."""
    lengths = np.array([len(row) for row in ids])
    mask = np.arange(lengths.max()) < lengths[:, None]
    padded = np.full(mask.shape, pad_id, dtype=np.int64)
    padded[mask] = np.concatenate([np.asarray(row, dtype=np.int64) for row in ids])
    return padded, mask.astype(np.int64)
