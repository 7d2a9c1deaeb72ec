"""What more votes would bring: the loss on held-out votes over the number of prompts learned from (the paper's Fig. 2).

Models of several sizes are trained on random parts of the votes, several draws of each size, and measured on votes on
other prompts. Through the means of each model runs a power law with a floor (`power_law.py`), which says what ten times
the prompts would bring, as far as the points bear it. The settings of the training are the same for all points, but for
its length, which follows the number of prompts (`training.static_study`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from p2l_sdk.analysis.extra import require_scipy
from p2l_sdk.analysis.scaling_points import PointsFile, fingerprint, grid
from p2l_sdk.analysis.scaling_report import Scaling
from p2l_sdk.analysis.scaling_training import Base, Trainings
from p2l_sdk.errors import P2LError, VotesError
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.votes.votes import Votes, warn_if_shared

LEAST_SIZES = 3  # a power law with a floor has three parameters
_LADDER = 6  # sizes, each half of the next


def scaling(
    votes: Votes,
    held_out: Votes | None = None,
    *,
    output: str | Path,
    sizes: Sequence[int | None] | None = None,
    per_prompt: Sequence[int | None] = (None,),
    widths: Sequence[int] = (256,),
    bases: Sequence[str] = ("static",),
    seeds: int = 5,
    validation: float | None = None,
    feedback: Feedback | str | None = None,
    epochs: float | None = None,
    keep: float = 1.0,
    level: float = 0.95,
    progress: Callable[[int, int], None] | None = None,
) -> Scaling:
    """Train models on parts of the votes, measure them on held-out votes, and fit power laws.

    Args:
        votes: to learn from.
        held_out: to measure on, on the same LLMs; None to hold out a share of the prompts.
        output: folder of the finished points. The same call again does what is missing.
        sizes: numbers of prompts, at least 3 of them; None among them is all prompts. None: all, a half, a quarter, ...
        per_prompt: most votes on a prompt, a curve for each; None is all votes.
        widths: of the hidden layer of static models, a curve for each.
        bases: "static", folders of static models, or text backbones (Hub id or folder; a LoRA and a linear head), a
            curve for each.
        seeds: draws of each size. Each has its own prompts, and its own initial weights.
        validation: share of the prompts that is held out where `held_out` is not given. None is 0.1.
        feedback: the feedback model; None for the one that suits the votes.
        epochs: passes over the prompts of a part; None is 3 for a text backbone, and for a static model as many as suit
            the number of prompts.
        keep: share of the departure from the averaged leaderboard that is kept.
        level: of the intervals, in [0.5, 1).
        progress: called with the number of points that are done, and that of all.

    Raises:
        VotesError: there are fewer prompts than a size asks for, or a part's votes are too few for the feedback model.
        P2LError: a setting is out of range, the folder holds points of other settings, or a base cannot be loaded.
        MissingExtraError: the extra `train` is not installed.
    """
    from p2l_sdk.training import TrainingConfig
    from p2l_sdk.training.checks import check_ground, choose_feedback

    require_scipy()
    TrainingConfig(votes="-", output="-", epochs=epochs, keep=keep, validation=validation)  # checks them
    _check(sizes, per_prompt, widths, bases, seeds, level)
    if held_out is None:
        validation = 0.1 if validation is None else validation
        votes, held_out = votes.split(validation, 0)
    elif validation is not None:
        raise P2LError("validation has no effect where held-out votes are given; leave out one of the two")
    if held_out.models != votes.models:
        raise P2LError("the held-out votes are on other LLMs; read them with Votes.read(file, votes.models)")
    warn_if_shared(votes, held_out, "the held-out votes")
    law = choose_feedback(votes)[0] if feedback is None else Feedback.parse(str(feedback))
    check_ground(votes, law)
    numbers = _sizes(sizes, len(votes.prompts))
    found = [Base.of(name) for name in dict.fromkeys(bases)]
    ordered = list(dict.fromkeys(per_prompt))
    models = {base.name: [None] if base.folder is None else list(dict.fromkeys(widths)) for base in found}
    cells = grid(models, numbers, ordered, seeds)
    settings = {
        "validation": validation,
        "feedback": str(law),
        "epochs": epochs,
        "keep": keep,
        "votes": fingerprint(votes),
        "held_out": fingerprint(held_out),
    }
    trainings = Trainings(votes, held_out, law, epochs=epochs, keep=keep, bases=found)
    with PointsFile(output, settings) as file:
        missing = [cell for cell in cells if cell not in file]
        done = len(cells) - len(missing)
        for cell in missing:
            if progress is not None:
                progress(done, len(cells))
            file.add(trainings.point(cell))
            done += 1
        if progress is not None:
            progress(done, len(cells))
        points = [file[cell] for cell in cells]
    return Scaling.of(points, n_pool=len(votes.prompts), n_held_out=len(held_out.prompts), level=level)


def _check(
    sizes: Sequence[int | None] | None,
    per_prompt: Sequence[int | None],
    widths: Sequence[int],
    bases: Sequence[str],
    seeds: int,
    level: float,
) -> None:
    lists = {"sizes": (None,) if sizes is None else sizes, "per_prompt": per_prompt, "widths": widths, "bases": bases}
    for name, values in lists.items():
        if not values:
            raise P2LError(f"{name} is empty")
    least = {"sizes": 2, "per_prompt": 1, "widths": 1}
    for name, smallest in least.items():
        for value in lists[name]:
            if value is not None and (not isinstance(value, int) or value < smallest):
                raise P2LError(f"{name} holds {value!r}; it takes whole numbers of {smallest} or more")
    if seeds < 1:
        raise P2LError(f"seeds is {seeds}; it must be 1 or more")
    if not 0.5 <= level < 1.0:
        raise P2LError(f"the level is {level}; it must be at least 0.5 and less than 1, such as 0.95")


def _sizes(sizes: Sequence[int | None] | None, n_prompts: int) -> list[int]:
    """The numbers of prompts, in ascending order."""
    if sizes is None:
        numbers = {n_prompts >> step for step in range(_LADDER) if n_prompts >> step >= 2}
    else:
        numbers = {n_prompts if size is None else size for size in sizes}
    if max(numbers) > n_prompts:
        raise VotesError(
            f"sizes holds {max(numbers):,}, and there are {n_prompts:,} prompts to learn from beside those held out"
        )
    if len(numbers) < LEAST_SIZES:
        raise P2LError(
            f"{len(numbers)} size{'' if len(numbers) == 1 else 's'} of data say nothing about a law; study "
            f"{LEAST_SIZES} or more (5 to check it)"
        )
    return sorted(numbers)
