"""The content of the page as HTML, independent of Gradio."""

from __future__ import annotations

import functools
import math
from typing import Any

from board_html import leaderboard_html, message, price
from choice_html import choice_html
from frontier_svg import frontier_svg
from scale import Scale, round_step

from p2l_sdk import P2L, Leaderboard, Router
from p2l_sdk.errors import BudgetError, P2LError

MAX_PROMPTS = 1000  # per aggregation
_NAMED = 12  # most LLMs without a cost that are named


class Answers:
    """The answers of one model to the visitors of the page.

    Attributes:
        slider: minimum, maximum, step, precision, initial value and label of the budget slider: USD per response, or if
            prices differ widely 0 to 100 from the cheapest LLM to the most expensive; None if LLMs cannot be chosen by
            cost.
        note: a note on costs for the page, or "".
    """

    def __init__(self, p2l: P2L) -> None:
        self.p2l = p2l
        priced = [name for name in p2l.models if name in p2l.costs]
        dearest = max((p2l.costs[name] for name in priced), default=0.0)
        self._router = p2l.router(models=priced) if dearest > 0.0 else None
        cheapest = dearest if self._router is None else float(self._router.prices.min())
        self._scale = Scale(cheapest, dearest or 1.0)
        self.slider = None if self._router is None else _slider(cheapest, dearest, self._scale.ratios)
        self.note = ""
        if not priced:
            self.note = "this model knows no costs of its LLMs, so there is no routing here: the best LLM is the choice"
        elif self._router is None:
            self.note = "all LLMs of this model are free, so there is no routing here: the best LLM is the choice"
        elif len(priced) < len(p2l.models):
            without = [name for name in p2l.models if name not in p2l.costs]
            named = f": {', '.join(without)}" if len(without) <= _NAMED else f", {len(without)} of {len(p2l.models)}"
            self.note = f"routing leaves out the LLMs whose cost is not known{named}"
        # moving the slider asks for the same prompt again and again
        self._leaderboard = functools.lru_cache(maxsize=256)(p2l.leaderboard)

    def one_prompt(self, prompt: str, budget: float = 0.0) -> tuple[str, str, str]:
        """HTML of the prompt's leaderboard, the choice within the budget (a value of the slider), and the frontier."""
        try:
            board = self._leaderboard(prompt)
        except P2LError as error:
            return message(str(error), "problem"), "", ""
        table = leaderboard_html(board, "Leaderboard for this prompt", self.p2l.costs)
        if self._router is None:
            return table, "", ""
        usd = self._scale.cost(budget / 100.0) if self._scale.ratios else budget
        return table, *self._routing(self._router, board, usd)

    def many_prompts(self, text: str) -> str:
        """HTML of the leaderboard of many prompts, one per line."""
        prompts = [line.strip() for line in text.splitlines() if line.strip()]
        if not prompts:
            return message("there are no prompts; paste some, one per line", "problem")
        if len(prompts) > MAX_PROMPTS:
            return message(
                f"these are {len(prompts):,} prompts, and this page takes {MAX_PROMPTS:,}; for more run: "
                "p2l aggregate prompts.txt",
                "problem",
            )
        try:
            board = self.p2l.aggregate(prompts)
        except P2LError as error:
            return message(str(error), "problem")
        several = len(prompts) > 1
        title = f"Leaderboard for these {len(prompts):,} prompts" if several else "Leaderboard for this prompt"
        note = message("intervals need two prompts or more") if board.intervals is None else ""
        return leaderboard_html(board, title, self.p2l.costs) + note

    def _routing(self, router: Router, board: Leaderboard, budget: float) -> tuple[str, str]:
        chosen = None
        try:
            route = router.route(board, budget, seed=0)  # fixed seed: the choice changes with the budget only
        except BudgetError as error:
            choice = message(str(error), "problem")
        else:
            choice = choice_html(route, router.route(board), self.p2l.costs)
            chosen = (route.expected_cost or 0.0, route.expected_score)
        scores = router.scores(board.coefs)
        return choice, frontier_svg(router.names, router.prices, scores, budget, chosen)


def _slider(cheapest: float, dearest: float, ratios: bool) -> dict[str, Any]:
    """From 0 to the most expensive LLM in round steps, starting half-way between the cheapest and that; or from the
    cheapest to the most expensive LLM in equal ratios, 0 to 100."""
    if ratios:
        label = (
            f"Budget per response, from the cheapest LLM ({price(cheapest)}) to the most expensive ({price(dearest)})"
        )
        numbers = {"minimum": 0, "maximum": 100, "value": 50, "step": 1, "precision": 0}
        return {**numbers, "label": label, "elem_classes": ["p2l-ratios"]}
    step = round_step(dearest / 200.0)
    digits = -math.floor(math.log10(step))  # otherwise a browser shows 0.00089999999999982
    maximum, value = math.ceil(dearest / step - 1e-9) * step, round((cheapest + dearest) / 2.0 / step) * step
    return {
        "minimum": 0.0,
        "maximum": round(maximum, digits),
        "value": round(value, digits),
        "step": step,
        "precision": max(digits, 0),
        "label": "Budget, USD per response",
    }
