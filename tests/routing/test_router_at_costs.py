"""A router at the costs of a single prompt."""

from __future__ import annotations

from p2l_sdk import P2L

MODELS = ("gemma-2-9b-it", "qwen2.5-7b-instruct", "llama-3.3-nemotron-super-49b-v1")
USUAL = dict(zip(MODELS, (0.0001, 0.0002, 0.0009), strict=True))
PROMPT = "Prove that the square root of two is irrational"


def test_costs_of_one_prompt_change_its_choice_and_no_other(routing9: P2L):
    router, board = routing9.router(USUAL, models=MODELS), routing9.leaderboard(PROMPT)
    best = router.route(board).model
    pacer = router.pacer(max(USUAL.values()))  # which pays for any
    assert router.route_paced(board, pacer).model == best
    pacer.record(1.001 * max(USUAL.values()))  # a little too much: money has a price now, a low one
    assert pacer.multiplier > 0.0
    assert router.route_paced(board, pacer).model == best
    dear = router.at_costs({**USUAL, best: 1e6})
    assert dear.route_paced(board, pacer).model != best
    assert dear.route(board, 0.01).model != best
    assert dear.route(board, 0.01).expected_cost <= 0.01
    assert router.route(board, 0.01).model == best
