# ruff: noqa: RUF001  (marks and letters of other languages are meant)
"""Changed copies of prompts to train on: the same question with other words around it, mistyped, or with words left
out. None of the wordings is one that measures (see `changes`)."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from p2l_sdk.modeling.prompt_p2l import Prompt, user_turns
from p2l_sdk.rewording.changes import framed
from p2l_sdk.rewording.prose import is_english, is_question, on_prose

_LEFT_OUT = 0.15  # of the words, in a copy that leaves some out
_MISTYPED = 0.06  # of the words of four letters and more
_FRAMES = (
    "Please {}",
    "{} please",
    "Hello. {}",
    "Hey, {}",
    "Good morning! {}",
    "I need some help. {}",
    "{} Many thanks.",
    "{} I'd appreciate it.",
    "{} Thx!",
    "Be as helpful as possible. {}",
    "{} Be as accurate as possible.",
    "You are an AI that is good at such things. {}",
    "{} Take your time and go step by step.",
    "{} Let's think about it.",
    "Respond well. {}",
    "### Instruction:\n{}\n### Response:",
    "User: {}\nAssistant:",
    "ok so {}",
    "{} Any idea?",
)
_QUESTIONS = (
    "Q: {} A:",
    "I have a question. {}",
    "My question is this: {}",
    "Tell me: {}",
    "I was wondering: {}",
    "Someone asked me: {}",
    "Quick question - {}",
    "Respond to this query: {}",
)
_TASKS = (
    "Task: {}",
    "I need you to do this: {}",
    "This is what I want: {}",
    "Your job: {}",
    "Work on this: {}",
    "Would you be able to do this? {}",
    "Complete this task. {}",
)
# for prompts in other languages, by words that tell the language
_FOREIGN = {
    r"\b(?:der|die|und|ist|ich|nicht|ein|eine|wie)\b": ("Bitte: {}", "{} Danke!", "Hallo, {}", "Meine Frage: {}"),
    r"\b(?:les|des|est|une|pour|dans|que|je)\b": ("Bonjour, {}", "{} Merci !", "Ma question : {}", "{} s'il te plaît"),
    r"\b(?:los|las|una|por|con|para|es|qué|cómo)\b": ("Hola, {}", "{} ¡Gracias!", "Mi pregunta: {}", "Por favor, {}"),
    r"[а-я]{3}": ("Привет! {}", "{} Спасибо!", "Мой вопрос: {}", "Пожалуйста, {}"),
    r"[ぁ-ん]": ("こんにちは。{}", "{}よろしくお願いします。", "質問です。{}"),
    r"[가-힣]": ("안녕하세요. {}", "{} 감사합니다.", "질문입니다. {}"),
    r"[一-鿿]": ("你好，{}", "{} 谢谢！", "我的问题是：{}", "请帮我：{}"),
}


def changed_copies(prompts: Sequence[Prompt], number: int, seed: int = 0) -> list[list[Prompt]]:
    """Copies of prompts that ask the same; a copy of a conversation is changed in its last turn.

    Args:
        prompts: the prompts.
        number: copies of each.
        seed: of the changes; those of a prompt do not depend on the other prompts.

    Returns:
        `number` lists, each with one copy of every prompt, in their order.
    """
    return [[_copy(prompt, f"{seed}/{i}") for prompt in prompts] for i in range(number)]


def _copy(prompt: Prompt, seed: str) -> Prompt:
    *before, last = user_turns(prompt)
    draw = random.Random(f"{seed}/{last}")
    for change in draw.sample(_CHANGES, draw.choice((1, 1, 2))):
        last = change(last, draw) or last
    if not before:
        return last
    return [{"role": "user", "content": turn} for turn in (*before, last)]


def _frame(text: str, draw: random.Random) -> str | None:
    if is_english(text):
        if draw.random() < 0.6:
            return framed(text, draw.choice(_FRAMES))
        return framed(text, draw.choice(_QUESTIONS if is_question(text) else _TASKS))
    for words, frames in _FOREIGN.items():
        if re.search(words, text.lower()):
            return draw.choice(frames).format(text.strip())
    return None


def _without_words(text: str, draw: random.Random) -> str | None:
    left = on_prose(
        text, lambda part: re.sub(r"[^\W\d_]+ ", lambda w: "" if draw.random() < _LEFT_OUT else w.group(), part)
    )
    return left if left.strip() else None


def _mistyped(text: str, draw: random.Random) -> str:
    def mistype(word: re.Match[str]) -> str:
        found = word.group()
        if draw.random() >= _MISTYPED:
            return found
        i = draw.randrange(1, len(found))
        return found[:i] + draw.choice("abcdefghijklmnopqrstuvwxyz") + found[i + draw.choice((0, 1)) :]

    return on_prose(text, lambda part: re.sub(r"[a-z]{4,}", mistype, part))


def _at_the_end(text: str, draw: random.Random) -> str:
    bare = text.rstrip()
    return bare[:-1] if bare[-1] in ".?!" and len(bare) > 1 else bare + draw.choice((".", "...", " ?", "!"))


_CHANGES: tuple[Callable[[str, random.Random], str | None], ...] = (
    _frame,
    _frame,
    _frame,
    _without_words,
    _mistyped,
    _at_the_end,
)
