"""In which of the Arena's languages is a prompt? By its letters, and by its small words where these are Latin."""

from __future__ import annotations

import re

_SCRIPTS = {
    "japanese": re.compile(r"[\u3040-\u30ff]"),
    "korean": re.compile(r"[\uac00-\ud7af]"),
    "chinese": re.compile(r"[\u4e00-\u9fff]"),
    "russian": re.compile(r"[\u0400-\u04ff]"),
    "other": re.compile(r"[\u0370-\u03ff\u0530-\u06ff\u0900-\u0e7f]"),
}
_WORDS = {
    "english": "the of and to is that for with you are this what how write please can from not it my in be have a me",
    "french": "le la les des et une un est dans pour que qui pas sur avec vous je tu j d l en du au ce mon sont "
    "comment moi deux entre pourquoi quand résous",
    "german": "der die das und ist nicht ein eine für mit auf zu den von ich wie im sich dem auch bitte es mir man "
    "wann warum welche was wer du kann beim in sind",
    "spanish": "el la los las de una un en y con para por como sobre se que del es mi al lo qué cómo más siguiente "
    "función dame hola estoy si",
    "italian": "il di che per sono della un una con come gli nella uno su delle questo",
    "portuguese": "o os de um uma que não do da com para como seu sua é em você ser",
    "vietnamese": "và của là một cho những được không trong hãy tôi",
}
_SMALL = {name: frozenset(words.split()) for name, words in _WORDS.items()}
_FAR = re.compile("[\u1ea0-\u1ef9ąęłśżźńćřěůšč]", re.IGNORECASE)  # Vietnamese, Polish, Czech
_UKRAINIAN = re.compile("[іїєґ]", re.IGNORECASE)
_OTHERS = ("italian", "portuguese", "vietnamese")


def language(prompt: str) -> str:
    """The language of a prompt: one of the Arena's seven, "english", or "other".

    A text in a foreign script may hold much code, and names in Latin letters: a fifth of the letters decides, or fewer
    if there is next to no English. English prompts quote other languages, and code has no small words at all.
    """
    letters = sum(character.isalpha() for character in prompt) or 1
    words = re.findall(r"[^\W\d_]+", prompt.lower())
    found = {name: sum(word in small for word in words) for name, small in _SMALL.items()}
    scripts = {name: len(script.findall(prompt)) for name, script in _SCRIPTS.items()}
    if scripts["japanese"] > 0.05 * letters:
        scripts["japanese"] += scripts.pop("chinese")  # kanji
    best = max(scripts, key=lambda name: scripts[name])
    if scripts[best] >= 0.2 * letters or (scripts[best] >= 20 and scripts[best] > 3 * found["english"]):
        return "other" if best == "russian" and _UKRAINIAN.search(prompt) else best
    if len(_FAR.findall(prompt)) >= 5:
        return "other"
    best = max(found, key=lambda name: found[name])
    if found[best] < 2 or found[best] <= 1.5 * found["english"] or found[best] <= 0.1 * len(words):
        return "english"
    return "other" if best in _OTHERS else best
