"""`Choice`: what cross-validation chose for a static model, and how good it is on prompts that were left out."""

from __future__ import annotations

from dataclasses import dataclass

from p2l_sdk.evaluation import Estimate
from p2l_sdk.training.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class CategoryGain:
    """What categories of prompts bring, on prompts that were left out.

    Attributes:
        without: cross-validated loss of a model that learns from the votes alone, in nats per vote.
        difference: by how much it is higher with the categories; below 0 they help.
        spare: how much higher it may be in any case: with many votes a standard error is next to nothing.
        kept: whether the model keeps anything of what it learned; if not, it returns the averaged leaderboard.
    """

    without: float
    difference: Estimate
    spare: float = 0.0
    kept: bool = True

    @property
    def used(self) -> bool:
        """Whether the model uses the categories: unless the loss is higher by more than a standard error and
        more than there is to spare."""
        return self.difference.value <= max(self.difference.standard_error or 0.0, self.spare)

    @property
    def words(self) -> str:
        """Both losses, and what follows, for people."""
        error = self.difference.standard_error
        margin = "" if error is None else f" ± {error:.4f}"
        if not self.kept:
            then = "nothing that either learned is kept"
        elif self.used:
            then = "better: they are used" if self.difference.value < 0.0 else "not clearly worse: they are used"
        else:
            then = "worse: they are not used (with a teacher_weight they teach all the same)"
        return (
            f"categories: {self.without + self.difference.value:.4f} nats per vote with them, {self.without:.4f} "
            f"without, difference {self.difference.value:+.4f}{margin}: {then}"
        )


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen, and how good it is on prompts that were left out.

    Attributes:
        steps, epochs: length of the training of each fold's head.
        keep: share kept of what tells LLMs apart in the departure from the averaged leaderboard.
        level: share kept of what is common to all LLMs on a prompt.
        verdict: the cross-validated loss beside that of the averaged leaderboard.
        curve: (number of prompts, cross-validated loss) of models trained on shares of the prompts, the last on all;
            empty if there are too few prompts.
        recognised: share of what tells LLMs apart that is from the part of the model that recognises categories.
        recognised_level: likewise, of what is common to all LLMs on a prompt.
        categories: what they bring, where it was left to choose whether they are used.
    """

    steps: int
    epochs: float
    keep: float
    level: float
    verdict: Verdict
    curve: tuple[tuple[int, float], ...] = ()
    recognised: float = 0.0
    recognised_level: float = 0.0
    categories: CategoryGain | None = None

    @property
    def doubling(self) -> float | None:
        """By how much twice as many prompts would lower the loss, in nats, if the curve goes on as it bends: the gain
        from half of the prompts to all, times its ratio to the gain before (at most 1). None without a curve."""
        if len(self.curve) < 3:
            return None
        first, second = (self.curve[i][1] - self.curve[i + 1][1] for i in (-3, -2))
        if second <= 0.0:
            return 0.0
        return second * (min(1.0, second / first) if first > 0.0 else 1.0)

    @property
    def more(self) -> str:
        """What more votes would bring, in words; empty without a curve."""
        if (gain := self.doubling) is None:
            return ""
        losses = ", ".join(f"{loss:.3f} with {n:,} prompts" for n, loss in self.curve)
        bring = f"about {gain:.3f} nats per vote" if gain >= 0.0005 else "next to nothing"
        return f"loss {losses}; twice as many prompts would bring {bring}"

    @property
    def _recognised_words(self) -> str:
        """How much of what is kept is from categories."""
        parts = [
            ("what tells LLMs apart", self.keep, self.recognised),
            ("the latter", self.level, self.recognised_level),
        ]
        of = [name for name, kept, recognised in parts if kept and recognised]
        both = "it" if self.level == self.keep else "both"
        named = both if len(of) == 2 else "".join(of)
        return f"; {self.recognised:.0%} of {named} from categories that are recognised" if of else ""

    @property
    def words(self) -> tuple[str, ...]:
        """What was chosen, and what more votes would bring, for people."""
        lines = [] if self.categories is None else [self.categories.words]
        if self.keep or self.level:
            chosen = f"chosen: keep {self.keep:g}"
            if self.level != self.keep:
                chosen += f" of what tells LLMs apart, {self.level:g} of what is common to all on a prompt"
            chosen += self._recognised_words
            lines.append(f"{chosen}; {self.epochs:.2g} epochs")
            if not self.keep:
                lines.append("these votes do not say which LLM is better on which prompt: every route is the same")
        return (*lines, self.more) if self.more else tuple(lines)
