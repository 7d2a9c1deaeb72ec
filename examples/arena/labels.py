"""What the labels of the sources say about the Arena's categories.

The Arena's `industry_*` categories bear the names of major groups of the Standard Occupational Classification (USA): a
prompt belongs to one if it is about the work of that group.

Each entry is a pair: the categories that a prompt with this label bears, and those that the label leaves open. A
category that is in neither is denied by the label.
"""

from __future__ import annotations

BUSINESS = "industry_business_and_management_and_financial_operations"
MEDIA = "industry_entertainment_and_sports_and_media"
LEGAL = "industry_legal_and_government"
SCIENCE = "industry_life_and_physical_and_social_science"
MATHEMATICAL = "industry_mathematical"
MEDICINE = "industry_medicine_and_healthcare"
SOFTWARE = "industry_software_and_it_services"
WRITING = "industry_writing_and_literature_and_language"
INDUSTRIES = (BUSINESS, MEDIA, LEGAL, SCIENCE, MATHEMATICAL, MEDICINE, SOFTWARE, WRITING)

LANGUAGES = ("chinese", "french", "german", "japanese", "korean", "russian", "spanish")
HARD = ("hard_6", "hard_english_6")  # the second is for prompts in English only

USED = ("coding", "creative_writing", "expert", *HARD, "if", *INDUSTRIES, *LANGUAGES, "long_user", "math")
"""The 23 categories whose prompts can be recognised."""

LEFT_OUT = {
    "full": "the overall leaderboard: what a prompt of no kind gets",
    "english": "most prompts of every kind are in English, so it is what all kinds deviate from; as a kind it would "
    "take the overall leaderboard away from English prompts of no kind",
    "multiturn": "a property of the conversation, not of its first prompt",
    "no_refusal": "a filter of the answers",
    "no_short": "a filter of the answers",
    "no_tie": "a filter of the votes",
}

Labels = tuple[tuple[str, ...], tuple[str, ...]]

_OPEN = ("expert", *HARD, "if")  # what a topic says nothing about

CATEGORY_PROMPTS: dict[tuple[str, str], Labels] = {
    # Real prompts of the Arena. Those of coding and math were selected for being hard, by the criteria of the Arena's
    # category; those of creative writing were not. One label each: a prompt of "math" may well ask for a program.
    ("arena-hard-v2", "coding"): (("coding", SOFTWARE, *HARD), ("math", MATHEMATICAL, "expert", "if", *INDUSTRIES)),
    ("arena-hard-v2", "math"): (("math", MATHEMATICAL, *HARD), ("coding", "expert", "if", *INDUSTRIES)),
    ("arena-hard-v2", "creative_writing"): (("creative_writing", WRITING), (*_OPEN, MEDIA)),
    ("mt_bench", "coding"): (("coding", SOFTWARE), (*_OPEN, MATHEMATICAL)),
    ("mt_bench", "math"): (("math", MATHEMATICAL), _OPEN),
    ("mt_bench", "writing"): (("creative_writing", WRITING), (*_OPEN, BUSINESS, MEDIA)),
    ("mt_bench", "roleplay"): (("creative_writing",), (*_OPEN, WRITING, MEDIA, "math", MATHEMATICAL)),
    ("mt_bench", "reasoning"): ((), ("math", MATHEMATICAL, *_OPEN)),
    ("mt_bench", "extraction"): (("if",), (*_OPEN, *INDUSTRIES)),  # "... in JSON", "return only the ..."
    ("mt_bench", "stem"): ((SCIENCE,), (*_OPEN, MATHEMATICAL, SOFTWARE)),
    ("mt_bench", "humanities"): ((), (*_OPEN, SCIENCE, BUSINESS, LEGAL, WRITING)),
    ("vicuna_bench", "coding"): (("coding", SOFTWARE), _OPEN),
    ("vicuna_bench", "math"): (("math", MATHEMATICAL), ()),
    # Business letters, reviews and scripts: writing as work, not always creative.
    ("vicuna_bench", "writing"): ((WRITING,), ("creative_writing", *_OPEN, BUSINESS, MEDIA)),
    ("vicuna_bench", "roleplay"): (("creative_writing",), (*_OPEN, WRITING, MEDIA)),
    ("vicuna_bench", "generic"): ((), INDUSTRIES),
    ("vicuna_bench", "knowledge"): ((), INDUSTRIES),
    ("vicuna_bench", "common-sense"): ((), INDUSTRIES),
    ("vicuna_bench", "counterfactual"): ((), (*INDUSTRIES, "creative_writing")),
    ("vicuna_bench", "fermi"): ((), ("math", MATHEMATICAL, SCIENCE)),
}

_MATH: Labels = (("math", MATHEMATICAL), _OPEN)
_SCIENCE: Labels = ((SCIENCE,), (*_OPEN, MEDICINE))
_NUMBERS: Labels = ((SCIENCE,), (*_OPEN, "math", MATHEMATICAL))  # many of these questions are calculations
_MEDICINE: Labels = ((MEDICINE,), (*_OPEN, SCIENCE))
_BUSINESS: Labels = ((BUSINESS,), (*_OPEN, "math", MATHEMATICAL))
# Economists are counted among the scientists, what they write about is business.
_ECONOMICS: Labels = ((BUSINESS,), (*_OPEN, "math", MATHEMATICAL, SCIENCE))
_LEGAL: Labels = ((LEGAL,), _OPEN)
# A question about computers is about the industry's work; it does not ask for code.
_COMPUTERS: Labels = ((SOFTWARE,), (*_OPEN, "coding", "math", MATHEMATICAL))
_SOCIETY: Labels = ((SCIENCE,), (*_OPEN, LEGAL))
_NONE: Labels = ((), (*_OPEN, *INDUSTRIES))  # engineering, logic, miscellaneous: several or none
_CULTURE: Labels = ((), (*_OPEN, SCIENCE, WRITING, LEGAL, MEDIA))

MMLU_PRO: dict[str, Labels] = {
    "biology": _SCIENCE,
    "business": _BUSINESS,
    "chemistry": _NUMBERS,
    "computer science": _COMPUTERS,
    "economics": _ECONOMICS,
    "engineering": _NONE,
    "health": _MEDICINE,
    "history": _CULTURE,
    "law": _LEGAL,
    "math": _MATH,
    "other": _NONE,
    "philosophy": _CULTURE,
    "physics": _NUMBERS,
    "psychology": _SCIENCE,
}

_MMLU: dict[Labels, str] = {
    _MATH: "abstract_algebra college_mathematics elementary_mathematics high_school_mathematics high_school_statistics",
    _SCIENCE: "college_biology high_school_biology high_school_psychology professional_psychology human_sexuality",
    _NUMBERS: "astronomy college_chemistry college_physics conceptual_physics high_school_chemistry "
    "high_school_physics",
    _MEDICINE: "anatomy clinical_knowledge college_medicine human_aging medical_genetics nutrition "
    "professional_medicine virology",
    _BUSINESS: "business_ethics management marketing professional_accounting public_relations",
    _ECONOMICS: "econometrics high_school_macroeconomics high_school_microeconomics",
    _LEGAL: "high_school_government_and_politics international_law jurisprudence professional_law "
    "security_studies us_foreign_policy",
    _COMPUTERS: "college_computer_science computer_security high_school_computer_science machine_learning",
    _SOCIETY: "high_school_geography prehistory sociology",
    _NONE: "electrical_engineering formal_logic global_facts logical_fallacies miscellaneous",
    _CULTURE: "high_school_european_history high_school_us_history high_school_world_history moral_disputes "
    "moral_scenarios philosophy world_religions",
}
MMLU: dict[str, Labels] = {subject: labels for labels, subjects in _MMLU.items() for subject in subjects.split()}

ROUTING9: dict[str, Labels] = {
    "agentverse-logicgrid": ((), ("math", MATHEMATICAL, *_OPEN)),
    "agentverse-mgsm": (("math", MATHEMATICAL), _OPEN),
    "arc_challenge": ((SCIENCE,), _OPEN),
    "commongen": ((), ("creative_writing", WRITING, "if")),  # a bare list of words
    "commonsense_qa": ((), ()),
    "gsm8k": (("math", MATHEMATICAL), _OPEN),
    "human_eval": (("coding", SOFTWARE), (*_OPEN, "math", MATHEMATICAL)),
    "math": (("math", MATHEMATICAL), _OPEN),
    "mbpp": (("coding", SOFTWARE), (*_OPEN, "math", MATHEMATICAL)),
    "mmlu": _NONE,
    "natural_qa": ((), (MEDIA, LEGAL, SCIENCE, MEDICINE)),  # short questions of a search engine
    "openbook_qa": ((), (SCIENCE, *_OPEN)),  # common sense more than science
    "trivia_qa": ((), (MEDIA, LEGAL, SCIENCE, WRITING)),
}
"""Tasks of routing9. GPQA is left out: its authors ask that its questions be shown nowhere."""
