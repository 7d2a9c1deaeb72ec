"""A teacher: a P2L model whose outcome probabilities on the training prompts are learned from beside the votes.

A vote is one draw from an outcome distribution. A stronger model knows that distribution better than a few draws tell,
so its probabilities, taken as votes with fractional weights, teach a smaller model more than the votes alone
(knowledge distillation; Hinton et al. 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from p2l_sdk.errors import P2LError, UnknownModelError
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.feedback_p2l import Feedback, log_probabilities
from p2l_sdk.names import find_models, places
from p2l_sdk.p2l import P2L
from p2l_sdk.training.listener import Listener, tracked
from p2l_sdk.votes.votes import Votes

_PROMPTS = 256  # read at once by the teacher
MOST_PAIRS = 128  # of LLMs, taught on a prompt


def lessons(
    teacher: P2L | Sequence[P2L],
    votes: Votes,
    feedback: Feedback,
    weight: float,
    *,
    pairs: int = MOST_PAIRS,
    seed: int = 0,
    listener: Listener | None = None,
) -> Votes:
    """The teacher's outcome probabilities on the prompts of the votes, as votes with fractional weights.

    Args:
        teacher: the teacher; of several, the mean of their probabilities is taught.
        votes: the votes that a model is trained on. Pairs of their LLMs are taught on each of their prompts.
        feedback: the feedback model of the student.
        weight: total weight of the lessons, relative to that of the votes; each prompt has the same share of it. Where
            every pair has one vote on every prompt, a pair's probabilities weigh `weight` votes.
        pairs: most pairs taught on a prompt; of more, so many are drawn for each prompt. Fewer make training faster.
        seed: of the pairs drawn.
        listener: is told of the progress.

    Returns:
        Votes with the prompts and the LLMs of `votes`, in their order, so that both are split in the same way.

    Raises:
        UnknownModelError: a teacher does not know an LLM of the votes.
        P2LError: a teacher has no probability for an outcome of the student's feedback model.
    """
    teachers = [teacher] if isinstance(teacher, P2L) else list(teacher)
    columns = [_columns(p2l, votes.models, feedback) for p2l in teachers]

    def say(rows: slice, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        prompts = votes.prompts[rows]
        of_each = [
            chances(p2l.spec.feedback, p2l.coefficients(prompts), x[a], x[b])
            for p2l, x in zip(teachers, columns, strict=True)
        ]
        return np.asarray(np.mean(of_each, axis=0))

    return taught(votes, say, weight, pairs=pairs, seed=seed, listener=listener)


def taught(
    votes: Votes,
    say: Callable[[slice, np.ndarray, np.ndarray], np.ndarray],
    weight: float,
    *,
    pairs: int = MOST_PAIRS,
    seed: int = 0,
    listener: Listener | None = None,
) -> Votes:
    """Outcome probabilities on the prompts of votes, as votes with fractional weights; see `lessons`.

    Args:
        votes: the votes that a model is trained on.
        say: for prompts in a slice, and the two LLMs of each of their pairs, both `(n_prompts, k)` columns of
            `votes.models`, the probabilities as `chances` gives them; all zero where nothing is taught.
        weight, pairs, seed, listener: as in `lessons`.
    """
    m, n, random = len(votes.models), len(votes.prompts), np.random.default_rng(seed)
    parts: list[tuple[np.ndarray, ...]] = []
    for start in tracked(range(0, n, _PROMPTS), "asking the teacher", listener or Listener()):
        rows = slice(start, min(start + _PROMPTS, n))
        chosen = _pairs(m * (m - 1) // 2, pairs, rows.stop - start, random)
        a, b = _llms_of(chosen, m)
        said = say(rows, a, b)
        row, pair, winner = np.nonzero(said)
        share = said[row, pair, winner] / chosen.shape[1]
        parts.append((start + row, a[row, pair], b[row, pair], winner, share))
    prompt, a, b, winner, share = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Votes(votes.prompts, votes.models, prompt, a, b, winner, share * (weight * votes.weight.sum() / n))


def together(first: Votes | None, second: Votes | None) -> Votes | None:
    """Lessons of two kinds, of which there may be none."""
    return second if first is None else with_lessons(first, second)


def with_lessons(votes: Votes, lessons: Votes | None) -> Votes:
    """Votes and lessons on the same prompts, together."""
    if lessons is None:
        return votes
    return Votes(
        votes.prompts,
        votes.models,
        prompt=np.concatenate([votes.prompt, lessons.prompt]),
        a=np.concatenate([votes.a, lessons.a]),
        b=np.concatenate([votes.b, lessons.b]),
        winner=np.concatenate([votes.winner, lessons.winner]),
        weight=np.concatenate([votes.weight, lessons.weight]),
    )


def _columns(p2l: P2L, models: tuple[str, ...], feedback: Feedback) -> np.ndarray:
    """For each LLM of the votes its column in the teacher's coefficients."""
    try:
        known = find_models(models, p2l.models, "a vote")
    except UnknownModelError as error:
        raise UnknownModelError(f"the teacher {p2l!r} cannot teach these votes: {error}") from None
    teaches = p2l.spec.feedback
    if missing := [winner for winner in feedback.outcomes if winner not in teaches.outcomes]:
        words = " and ".join(winner.name.lower().replace("_", " ") for winner in missing)
        raise P2LError(
            f"the teacher {p2l!r} has the feedback model {teaches}, which has no probability of {words}, so it cannot "
            f"teach {feedback}; choose the feedback model {str(teaches)!r} (--feedback {teaches}) or another teacher"
        )
    return np.array([places(p2l.models)[known[name]] for name in models])


def _pairs(n_pairs: int, most: int, n_prompts: int, random: np.random.Generator) -> np.ndarray:
    """`(n_prompts, k)` numbers of the pairs that are taught on each prompt."""
    if n_pairs <= most:
        return np.tile(np.arange(n_pairs), (n_prompts, 1))
    return np.stack([random.choice(n_pairs, most, replace=False) for _ in range(n_prompts)])


def _llms_of(pairs: np.ndarray, n_models: int) -> tuple[np.ndarray, np.ndarray]:
    """The two LLMs of pairs by their numbers, in the order of `numpy.triu_indices(n_models, 1)`, without a list of all
    pairs."""
    from_end = n_models * (n_models - 1) // 2 - 1 - pairs
    last = (np.sqrt(8.0 * from_end + 1.0).astype(np.int64) - 1) // 2
    last += (last + 1) * (last + 2) // 2 <= from_end  # where the root was rounded
    last -= last * (last + 1) // 2 > from_end
    return n_models - 2 - last, n_models - 1 - (from_end - last * (last + 1) // 2)


def chances(feedback: Feedback, found: Coefficients, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`(n_prompts, k, 4 winners)` probabilities for the LLMs in columns a and b, both `(n_prompts, k)`."""
    theta_a, theta_b = (np.take_along_axis(found.coefs, x, 1).astype(np.float64) for x in (a, b))
    eta, gamma = (None if x is None else x.astype(np.float64) for x in (found.eta, found.gamma))
    likely = np.zeros((*a.shape, 4))
    likely[..., list(feedback.outcomes)] = np.exp(log_probabilities(feedback, theta_a, theta_b, eta, gamma))
    return likely
