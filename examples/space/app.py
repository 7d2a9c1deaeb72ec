"""Demo page of a Prompt-to-Leaderboard model: type a prompt, see which LLM is best and what a budget buys.

python app.py [MODEL]    MODEL: folder or Hub id; by default the environment variable P2L_MODEL or the embedded model
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import gradio as gr
from answers import Answers
from board_html import message

from p2l_sdk import P2L, P2LError

PROMPTS = [
    "Prove that the square root of two is irrational",
    "Who wrote the novel Moby Dick?",
    "Merge two sorted lists in Python",
    "Write a haiku about the sea",
    "What is 17 * 23?",
    "What are the side effects of ibuprofen?",
    "Explique la photosynthèse à un enfant",
]
SETS = {
    "School maths": [
        "What is 17 * 23?",
        "Solve x^2 = 2 for x.",
        "A train leaves at 9:40 and arrives at 11:05. How long is the journey?",
        "What is the area of a circle of radius 3?",
        "Tom has 12 apples and gives a third of them away. How many are left?",
    ],
    "General knowledge": [
        "Who wrote the novel Moby Dick?",
        "What is the capital of Australia?",
        "Which organ pumps blood through the body?",
        "In which year did the Berlin Wall fall?",
        "What is photosynthesis?",
    ],
    "Programming": [
        "Write a Python function that merges two sorted lists",
        "What does the keyword static mean in C?",
        "Write a SQL query that counts the orders of each customer",
        "Why does my loop never end? while x > 0: x + 1",
        "Reverse a linked list in Java",
    ],
}
ABOUT = """# Which LLM answers this prompt best?
A [Prompt-to-Leaderboard](https://arxiv.org/abs/2502.14855) model reads your prompt and predicts how {n} LLMs would rank
on *that* prompt. No LLM is called.{kinds}"""
KINDS = " It recognises {n} kinds of prompt, and knows how good each LLM is at each of them."


def build(p2l: P2L, name: str) -> gr.Blocks:
    """The page of a model; `name` is shown at the bottom."""
    answers = Answers(p2l)
    with gr.Blocks(title="Which LLM answers this prompt best?", analytics_enabled=False) as page:
        kinds = KINDS.format(n=len(p2l.spec.kinds)) if p2l.spec.kinds else ""
        gr.Markdown(ABOUT.format(n=len(p2l.models), kinds=kinds))
        with gr.Tab("One prompt"):
            _one_prompt(answers)
        with gr.Tab("Many prompts"):
            _many_prompts(answers)
        gr.Markdown(f"Model: {name}")
    return page


def _one_prompt(answers: Answers) -> None:
    with gr.Row(equal_height=True):
        prompt = gr.Textbox(PROMPTS[0], label="Your prompt", max_lines=8, scale=8, elem_id="prompt")
        button = gr.Button("Rank the LLMs", variant="primary", scale=1, min_width=180)
    examples = gr.Examples(PROMPTS, prompt, label="Or try one of these")
    inputs: list[gr.Component] = [prompt]
    events = [prompt.submit, button.click]
    with gr.Row():
        with gr.Column(scale=6, min_width=420):
            board = _html("leaderboard")
        if answers.slider is not None:
            with gr.Column(scale=5, min_width=420):
                budget = gr.Slider(**answers.slider, buttons=[], elem_id="budget")
                choice, frontier = _html("choice"), _html("frontier")
                inputs.append(budget)
                events.append(budget.input)
    outputs = [board] if answers.slider is None else [board, choice, frontier]
    for output, shown in zip(outputs, answers.one_prompt(*(field.value for field in inputs)), strict=False):
        output.value = shown  # so that the page is not empty at first
    if answers.note:
        _html("note", message(answers.note))

    def answer(*values):
        return answers.one_prompt(*values)[: len(outputs)]

    gr.on(events, answer, inputs, outputs, show_progress="hidden", trigger_mode="always_last", api_name="leaderboard")
    examples.load_input_event.then(answer, inputs, outputs, show_progress="hidden", api_visibility="undocumented")


def _many_prompts(answers: Answers) -> None:
    with gr.Row():
        with gr.Column(scale=4, min_width=420):
            prompts = gr.Textbox(label="Your prompts, one per line", lines=10, max_lines=20, elem_id="prompts")
            button = gr.Button("Rank the LLMs for all of them", variant="primary")
            examples = gr.Examples(
                ["\n".join(prompts) for prompts in SETS.values()],
                prompts,
                label="Or try one of these",
                example_labels=list(SETS),
            )
        with gr.Column(scale=6, min_width=420):
            board = _html("aggregate", message("one leaderboard for all of your prompts appears here"))
    gr.on([prompts.submit, button.click], answers.many_prompts, prompts, board, api_name="aggregate")
    examples.load_input_event.then(answers.many_prompts, prompts, board, api_visibility="undocumented")


def _html(name: str, value: str = "") -> gr.HTML:
    return gr.HTML(value, elem_id=name, apply_default_css=False)


def main() -> None:
    if len(sys.argv) > 2 or sys.argv[1:] in (["-h"], ["--help"]):
        sys.exit(__doc__)
    source = (sys.argv[1:] or [os.environ.get("P2L_MODEL")])[0] or None
    try:
        p2l = P2L.from_pretrained(source)
    except P2LError as error:
        sys.exit(f"{source}: {error}")
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    font = gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700))  # served from here, not from Google
    build(p2l, f"`{source}`" if source else "the default of p2l-sdk").launch(
        theme=gr.themes.Default(primary_hue="blue", neutral_hue="slate", font=[font, "sans-serif"]),
        head=f"<style>{style}</style>",
        footer_links=["api", "settings"],
        run_history=False,
        ssr_mode=False,  # no second (Node) server
    )


if __name__ == "__main__":
    main()
