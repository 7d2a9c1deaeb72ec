"""The card of a built model."""

from __future__ import annotations

from dataclasses import dataclass

from p2l_sdk.hub.cards import as_yaml
from p2l_sdk.hub.markdown import Markdown, bullets, literal, render, rows
from p2l_sdk.kinds.build import BuiltModel


@dataclass(frozen=True, kw_only=True)
class BuildCard:
    """What a card says beyond the figures.

    Attributes:
        title: of the model; by default its folder's name.
        license: for the Hub.
        ratings, prompts: what it was built from, in a sentence each; Markdown.
        cost_note: where the costs are from; Markdown.
        source: the argument of `from_pretrained` in the card's snippet; by default the folder's name.
        notes: Markdown for the end.
    """

    title: str | None = None
    license: str | None = None
    ratings: str = ""
    prompts: str = ""
    cost_note: str = ""
    source: str | None = None
    notes: str = ""

    def __call__(self, built: BuiltModel) -> str:
        """The card, in Markdown."""
        spec, name = built.spec, built.folder.name
        kinds = [
            (
                kind.name,
                f"{kind.n_prompts:,}",
                *(f"{share:.0%}" for share in (kind.recognised, kind.elsewhere)),
                *(f"{points:.1f}" for points in (kind.departure, kind.error)),
                "" if kind.correlation is None else f"{kind.correlation:.3f}",
            )
            for kind in built.kinds
        ]
        return render(
            "kinds_model.md",
            metadata=Markdown(as_yaml({"license": self.license}) if self.license else ""),
            title=self.title or f"{name}: a P2L model",
            feedback=spec.feedback,
            n_models=len(spec.models),
            n_kinds=len(spec.kinds),
            source=literal(name) if self.source is None else Markdown(self.source),
            ratings=Markdown(self.ratings) or f"Leaderboards of {len(spec.models)} LLMs in {len(spec.kinds)} kinds.",
            prompts=Markdown(self.prompts) or f"{built.n_prompts:,} prompts of known kind.",
            costs=Markdown(self.cost_note),
            kinds=rows(kinds),
            none=""
            if built.none is None
            else f"Over prompts of no known kind, the overall ratings come back within {built.none:.1f} points (mean).",
            models=bullets(spec.models),
            notes=Markdown(f"\n{self.notes.strip()}\n" if self.notes else ""),
        )
