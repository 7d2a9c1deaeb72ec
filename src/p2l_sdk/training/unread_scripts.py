"""Scripts that a vocabulary cannot spell, read as question marks.

An English vocabulary has most Latin, Greek and Cyrillic letters, and some hundred Chinese characters. What it cannot
spell becomes the unknown token. In training data that is nearly always Chinese, so a static model takes the unknown
token for Chinese, and a prompt in Thai, or of emoji alone, with it. A question mark says what is true: there is
something that cannot be read. Chinese, Japanese and Korean keep the unknown token, as it tells something there; so do
single signs, as in logic and mathematics.
"""

from __future__ import annotations

import json
from itertools import groupby

from tokenizers import Tokenizer

MARK = "?"
_TRIED = {
    "Armenian": "բարև", "Bengali": "নমস্কার", "Canadian_Aboriginal": "ᐊᐃᖓᐃ", "Cherokee": "ᎣᏏᏲ", "Coptic": "ⲛⲟⲩϥⲣ",
    "Cuneiform": "𒁲𒈠", "Devanagari": "नमस्ते", "Egyptian_Hieroglyphs": "𓋹𓍑𓋴", "Ethiopic": "ሰላም", "Georgian": "გამარჯობა",
    "Glagolitic": "ⰴⱁⰱⱃⱁ", "Gothic": "𐌷𐌰𐌹𐌻𐍃", "Gujarati": "નમસ્તે", "Gurmukhi": "ਸਤਿ", "Hebrew": "שלום",
    "Javanese": "ꦱꦸꦒꦼꦁ", "Kannada": "ನಮಸ್ಕಾರ", "Khmer": "សួស្តី", "Lao": "ສະບາຍດີ", "Malayalam": "നമസ്കാരം",
    "Mongolian": "ᠰᠠᠢᠨ", "Myanmar": "မင်္ဂလာပါ", "Nko": "ߌߣߌ", "Oriya": "ନମସ୍କାର", "Runic": "ᚺᛖᛁᛚ", "Sinhala": "ආයුබෝවන්",
    "Syriac": "ܫܠܡܐ", "Tamil": "வணக்கம்", "Telugu": "నమస్కారం", "Thaana": "އައްސަލާމު", "Thai": "สวัสดี",
    "Tibetan": "བཀྲ་ཤིས", "Tifinagh": "ⴰⵣⵓⵍ", "Yi": "ꆏꉬ",
}  # fmt: skip
"""A greeting in each script, by whose tokens is seen whether a vocabulary spells it."""
_SIGNS = ((0x231A, 0x231B), (0x23E9, 0x23FA), (0x24B6, 0x24E9), (0x2600, 0x2793), (0x2800, 0x28FF), (0x2B50, 0x2B55))
"""Emoji of old, letters in circles, Braille; a vocabulary may have some of them."""
_EMOJI, _SMILE = r"\x{1F000}-\x{1FAFF}", "\N{GRINNING FACE}"
_FANCY = r"[\x{1D400}-\x{1D7FF}]{3,}"
"""A word in bold, script or double-struck letters; one or two of them are a variable."""


def mark_unread(tokenizer: Tokenizer) -> Tokenizer:
    """A tokenizer that reads `MARK` for each run of letters or pictures that its vocabulary cannot spell.

    Args:
        tokenizer: any; it is not modified. One that is not BERT's (WordPiece behind its normalizer), or that has no
            token for `MARK`, is returned as it is.
    """
    state = json.loads(tokenizer.to_str())
    kinds = (state["normalizer"] or {}).get("type"), state["model"]["type"]
    unknown = state["model"].get("unk_token")
    if kinds != ("BertNormalizer", "WordPiece") or not {MARK, unknown} <= state["model"]["vocab"].keys():
        return tokenizer

    def unread(text: str) -> bool:
        return unknown in tokenizer.encode(text, add_special_tokens=False).tokens

    scripts = "".join(rf"\p{{{name}}}" for name, greeting in _TRIED.items() if unread(greeting))
    signs = [point for first, last in _SIGNS for point in range(first, last + 1) if unread(chr(point))]
    words = f"[{scripts}{_ranges(signs)}{_EMOJI if unread(_SMILE) else ''}]+"
    rule = {"type": "Replace", "pattern": {"Regex": f"{words}|{_FANCY}"}, "content": MARK}
    state["normalizer"] = {"type": "Sequence", "normalizers": [rule, state["normalizer"]]}
    return Tokenizer.from_str(json.dumps(state))


def _ranges(points: list[int]) -> str:
    """Code points, as the inside of a class of a regular expression."""
    steps = groupby(enumerate(points), lambda pair: pair[1] - pair[0])
    runs = [[point for _, point in run] for _, run in steps]
    return "".join(rf"\x{{{run[0]:X}}}" + (rf"-\x{{{run[-1]:X}}}" if len(run) > 1 else "") for run in runs)
