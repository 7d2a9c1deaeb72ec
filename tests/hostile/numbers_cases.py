"""Hostile numbers: costs, weights and opponents at the edges of what a double holds."""

from __future__ import annotations

from hostile import Case, command

PROMPT = "Prove that the square root of two is irrational"


def _cost(text: str) -> Case:
    return Case(f"cost-{text}", lambda _: command("route", PROMPT, "--cost", text), says="(?i)budget|--cost")


CASES = [*map(_cost, ["nan", "1_0", "٣", "0x10", "1e"])]
