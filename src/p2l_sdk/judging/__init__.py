"""From no votes to votes: the answers of one's own LLMs, and an LLM judge's votes on them.

Each file knows those above it:

    limits      how fast, how often and for how much LLMs are asked
    spending    the ledger that keeps the costs of a run under its limit, even if it is killed
    asking      many queries to several LLMs within these limits
    pairs       which two LLMs are compared on which prompt
    answers     the file of answers
    collect     prompts -> answers of the LLMs of a gateway's config: `collect`
    rubric      two answers -> the question to a judge, and the verdict in its reply
    verdicts    the file of a judge's verdicts
    judge       answers -> votes, by an LLM that compares them in both orders: `judge`
    grade       answers -> scores, where there is a right one: `grade`

`p2l train --votes` reads the votes and the scores.
"""

from p2l_sdk.judging.collect import Collection, collect, collecting
from p2l_sdk.judging.grade import grade
from p2l_sdk.judging.judge import Judgement, judge, judging
from p2l_sdk.judging.limits import Limits

__all__ = ["Collection", "Judgement", "Limits", "collect", "collecting", "grade", "judge", "judging"]
