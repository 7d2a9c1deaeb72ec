"""A static model whose token table also says which words tell a category, learned from the column of `--by`.

To the table, one column a category is added: the log of how much more often a prompt is of the category when the token
occurs in it, with 10 prompts of the usual mixture on top. On a training prompt, the columns come from the prompts of
the other folds, so that they are worth as much there as on new prompts; the model's are those of all. Two heads are
trained in five folds over the training prompts (that of `p2l train --by` decays more), and measured on the prompts that
they did not see:

    votes       from the votes and, three times as heavy, the leaderboards of the categories (320 steps)
    categories  from the leaderboards of the categories alone (1,200 steps)
    mean        the mean of their outputs; this is what --output writes, a static model like any other

    cross-entropy     of the votes, in nats; "averaged" is that of the averaged leaderboard
    routed            score of the LLM ranked first, less that of the one that is best on all prompts

Both at the shares --keep and --level of the departure from the averaged leaderboard. No validation file is read.

    python benchmarks/word_categories.py --data ../shared/data/mmlu_pro [--by category] [--votes 15] [--output FOLDER]
"""

from __future__ import annotations

from threads import THREADS, parse

# isort: split
import argparse
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_matrix
from tokenizers import Tokenizer
from training_draws import feedback_for, mean_and_error, rows_of

from p2l_sdk import Scores, Votes, fit_leaderboard
from p2l_sdk.errors import P2LWarning
from p2l_sdk.hub.folders import STATIC_MODEL
from p2l_sdk.modeling.modeling_p2l import P2LModel
from p2l_sdk.modeling.prompt_p2l import PromptEncoder
from p2l_sdk.outputs.folders import new_folder
from p2l_sdk.training.categories import Categories
from p2l_sdk.training.category_teacher import category_lessons
from p2l_sdk.training.data import ByPrompt
from p2l_sdk.training.static import quantized, with_head, write_static
from p2l_sdk.training.static_backbone import new_model, spec_of, standardise
from p2l_sdk.training.static_folds import FOLDS, Folds, LossSums, folds_of
from p2l_sdk.training.static_heads import Heads, Scales, as_outputs, kept
from p2l_sdk.training.static_recipe import StaticRecipe
from p2l_sdk.training.teacher import with_lessons
from p2l_sdk.training.token_table import TokenTable, table_of

_USUAL = 10.0  # prompts of the usual mixture of categories, added to those that have a token
_WIDTH = 3.0  # standard deviation of an entry of the columns, relative to one of the table
_STEPS, _DECAY = 1200, 1.0
_WEIGHT = 3.0  # of the categories beside the votes


def some_votes(file: Path, by: str, per_prompt: int, seed: int) -> tuple[Votes, np.ndarray]:
    """So many random votes on each prompt, with the column of categories; and the scores of the prompts."""
    scores = Scores.read(file)
    every, random = Votes.from_scores(scores), np.random.default_rng(seed)
    n, pairs = len(scores.prompts), len(every) // len(scores.prompts)
    assert len(every.prompts) == n, "a prompt occurs twice, or has missing scores"
    assert (every.prompt == np.repeat(np.arange(n), pairs)).all()
    rows = np.concatenate([i * pairs + random.choice(pairs, min(per_prompt, pairs), replace=False) for i in range(n)])
    votes = rows_of(every, rows)
    return replace(votes, categories={by: np.asarray(scores.categories[by])[votes.prompt]}), scores.scores


class Words:
    """The token tables: the embedded model's, and columns from the prompts of a mask."""

    def __init__(self, votes: Votes, by: str, recipe: StaticRecipe) -> None:
        self.table, self.recipe = table_of(STATIC_MODEL), recipe
        self.spec = spec_of(votes, recipe, 1, {})
        self.tokens = PromptEncoder(self.spec, Tokenizer.from_str(self.table.tokenizer.to_str()))(votes.prompts)
        label = Categories.of(votes, by).number
        self._of_category = (label[:, None] == np.arange(label.max() + 1)).astype(np.float64)
        seen = [np.unique(np.asarray(row)) for row in self.tokens]
        starts = np.cumsum([0, *map(len, seen)])
        shape = len(seen), len(self.table.vectors)
        self._occurs = csr_matrix((np.ones(starts[-1]), np.concatenate(seen), starts), shape=shape)
        self._scale = _WIDTH * self.table.vectors.std() / self._columns(label >= 0).std()

    def _columns(self, rows: np.ndarray) -> np.ndarray:
        usual = self._of_category[rows].mean(0)
        counts = self._occurs[rows].T @ self._of_category[rows]
        share = (counts + _USUAL * usual) / (counts.sum(1, keepdims=True) + _USUAL)
        return np.log(share) - np.log(usual)

    def standardised(self, rows: np.ndarray) -> tuple[P2LModel, torch.Tensor]:
        """A model without a head whose columns come from these prompts, and the vectors of all prompts."""
        vectors = np.concatenate([self.table.vectors, self._scale * self._columns(rows)], 1, dtype=np.float32)
        model = new_model(self.spec, TokenTable(self.table.tokenizer, vectors), self.recipe)
        return model, standardise(model, self.tokens, self.recipe)

    def left_out(self, fold: np.ndarray) -> torch.Tensor:
        """The vectors of all prompts, with columns from those of the other folds."""
        found = [self.standardised(fold != i)[1] for i in range(FOLDS)]
        return torch.stack(found)[torch.as_tensor(fold), torch.arange(len(fold))]


def trained(folds: Folds, base: torch.Tensor, by: str, pairs: int, recipe: StaticRecipe) -> dict[str, Heads]:
    """The heads by name, for each fold."""
    members, how = folds.members(), replace(recipe.lengths(len(folds.fold))[-1], weight_decay=_DECAY)
    told = category_lessons(folds.votes, by, recipe.feedback, _WEIGHT, folds.fold, pairs=pairs, seed=recipe.seed)
    heads = {}
    for name, learned, steps in (
        ("votes", with_lessons(folds.votes, told), how),
        ("categories", told, replace(how, steps=_STEPS)),
    ):
        part = replace(folds, lessons=ByPrompt.of_votes(learned, recipe.feedback))
        heads[name] = part.train(base, members, steps, recipe.hidden_size, lambda: None)
    return heads


def table(folds: Folds, heads: dict[str, Heads], base: torch.Tensor, scores: np.ndarray, shares: Scales) -> str:
    """Markdown, with a row for each head and one for their mean."""
    sums, best = LossSums(folds), scores[:, scores.mean(0).argmax()]
    outputs = {name: folds.left_out(head) for name, head in heads.items()}
    outputs["mean"] = torch.stack(list(outputs.values())).mean(0)
    lines = ["| head | cross-entropy | averaged | routed |", "|---|---|---|---|"]
    for name, found in outputs.items():
        nothing = Scales(0.0, 0.0, shares.n_models)
        averaged, loss = sums.of(found, base, [nothing, shares]).sum(1) / sums.weights.sum()
        coefs = kept(found, base[folds.fold, 0], shares)[:, : shares.n_models].numpy()
        routed, error = mean_and_error(scores[np.arange(len(scores)), coefs.argmax(1)] - best)
        lines.append(f"| {name} | {loss:.4f} | {averaged:.4f} | {routed:+.4f} ± {error:.4f} |")
    return "\n".join(lines)


def write(folder: Path, words: Words, head: Heads) -> None:
    """Write the model with columns from all prompts."""
    model, _ = words.standardised(np.ones(len(words.tokens), dtype=bool))
    spec = words.spec.replace(head_hidden_size=head.hidden.shape[-1])
    with new_folder(folder) as made:
        write_static(quantized(with_head(model, spec, head)), words.table.tokenizer, made)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder with scores_train.parquet")
    parser.add_argument("--by", default="category", help="the column of categories")
    parser.add_argument("--votes", type=int, default=15, help="random votes a prompt")
    parser.add_argument("--keep", type=float, default=1.0, help="share kept of what tells LLMs apart")
    parser.add_argument("--level", type=float, default=1.2, help="share kept of what is common to them")
    parser.add_argument("--draw", type=int, default=3, help="seed of the draw of the votes")
    parser.add_argument("--seed", type=int, default=0, help="of the folds and the training")
    parser.add_argument("--output", type=Path, help="the new folder of the model")
    args = parse(parser)
    torch.set_num_threads(THREADS)
    warnings.simplefilter("ignore", P2LWarning)
    votes, scores = some_votes(args.data / "scores_train.parquet", args.by, args.votes, args.draw)
    recipe = StaticRecipe(feedback=feedback_for(votes), seed=args.seed)
    words, fold = Words(votes, args.by, recipe), folds_of(len(votes.prompts), args.seed)
    grouped = ByPrompt.of_votes(votes, recipe.feedback)
    folds = Folds.of(words.left_out(fold), votes, grouped, recipe.feedback, args.seed)
    base = folds.averaged(folds.members())
    assert base is not None, "too few votes"
    heads, shares = trained(folds, base, args.by, args.votes, recipe), Scales(args.keep, args.level, len(votes.models))
    print(table(folds, heads, base, scores, shares))
    if args.output is not None:
        averaged = as_outputs([fit_leaderboard(votes, recipe.feedback, intervals=None)], recipe.feedback)
        both = Heads(*(torch.cat([getattr(head, name) for head in heads.values()]) for name in vars(heads["votes"])))
        write(args.output, words, both.mean(base.repeat(2, 1, 1), averaged).shrunk(averaged, shares))


if __name__ == "__main__":
    main()
