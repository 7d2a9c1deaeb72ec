"""Prompts of many kinds and lengths, on which an exported model is compared with the one that it was made from."""

from __future__ import annotations

_TASKS = (
    "What is {}?",
    "Explain {} to a child of ten.",
    "Write a Python function that has to do with {}, with type hints and tests.",
    "Write a haiku about {}.",
    "Prove or refute: {} is harder to understand than its opposite.",
    "Summarise the history of {} in three sentences, then name two books.",
    "Translate into French: 'We talked about {} for hours, and nobody was wiser.'",
    "If {} were twice as large, what would change? Reason step by step and end with one number.",
    "Which of these is true of {}? (A) all of it (B) none of it (C) some of it. Answer with one letter.",
    "I have to give a talk on {} tomorrow, and I know nothing. Please help me with an outline. {}",
    "fix this: print('{}'",
    "{}",
)
_TOPICS = (
    "photosynthesis",
    "the square root of two",
    "binary search",
    "the French Revolution",
    "inflation",
    "a football match that ends 3 to 3",
    "a contract between a landlord and a tenant",
    "gradient descent",
    "black holes",
    "the Pythagorean theorem",
    "a recipe for lentil soup",
    "jealousy",
    "SQL joins",
    "the capital of Australia",
    "vaccination",
    "17 * 23",
    "a train that leaves at 9:40 and travels at 80 km/h",
    "chess openings",
    "the immune system",
    "a lonely lighthouse keeper",
    "prime numbers",
    "regular expressions",
    "the water cycle",
    "an angry customer",
    "supply and demand",
    "DNA",
    "a Roman legion",
    "recursion",
)
_LONG = "It is for an exam, so be exact, name your sources, and say what you are not sure of. "


def trying_prompts() -> list[str]:
    """336 prompts; every sixth is long."""
    prompts = [task.replace("{}", topic) for topic in _TOPICS for task in _TASKS]
    return [prompt + " " + _LONG * (4 + i % 13) if i % 6 == 5 else prompt for i, prompt in enumerate(prompts)]
