"""What categories of prompts bring to a static model (`p2l train --by COLUMN`).

Heads are trained in five folds over the training prompts and measured on the prompts that they did not see: on their
votes, and by the score of the LLM that they rank first. No validation file is read.

    way               votes alone; "taught W", lessons of the categories, W times as heavy as the votes; "words",
                      features of the words that tell categories; "words, S recognised", the mean with heads that
                      recognise categories, whose weight is S; "words, S of routes", only in what tells LLMs apart
    cross-entropy     of the votes, at the shares kept that are best, in nats
    difference        to votes alone, with its standard error over prompts; a static model leaves the categories out
                      where it is above its standard error and a hundredth of the gain over the averaged leaderboard
    routed            score of the LLM ranked first, less that of the one that is best on all prompts

    python benchmarks/taught_categories.py --data ../shared/data/mmlu_pro [--by category] [--prompts 1000] [--votes 3]
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
from tokenizers import Tokenizer
from training_draws import draw, feedback_for, mean_and_error

from p2l_sdk import Scores, Votes
from p2l_sdk.errors import P2LWarning
from p2l_sdk.hub.folders import STATIC_MODEL
from p2l_sdk.modeling.prompt_p2l import PromptEncoder
from p2l_sdk.training.categories import Categories
from p2l_sdk.training.category_teacher import category_lessons
from p2l_sdk.training.data import ByPrompt
from p2l_sdk.training.recognised import largest
from p2l_sdk.training.static_backbone import new_model, spec_of, standardise
from p2l_sdk.training.static_choice import shares_to_try
from p2l_sdk.training.static_folds import Folds, LossSums
from p2l_sdk.training.static_heads import Scales
from p2l_sdk.training.static_recipe import StaticRecipe
from p2l_sdk.training.teacher import with_lessons
from p2l_sdk.training.token_table import table_of
from p2l_sdk.training.word_features import WordFeatures


def drawn(file: Path, by: str, prompts: int | None, per_prompt: int | None, seed: int) -> tuple[Votes, np.ndarray]:
    """Votes with the column of categories, and the scores of their prompts and LLMs."""
    scores = Scores.read(file)
    row = {prompt: i for i, prompt in reversed(list(enumerate(scores.prompts)))}
    all_votes = Votes.from_scores(scores)
    votes, _ = draw(all_votes, prompts or len(all_votes.prompts), per_prompt, np.random.default_rng(seed))
    rows = np.array([row[prompt] for prompt in votes.prompts])
    labels = np.asarray(scores.categories[by])[rows]
    known = [scores.models.index(name) for name in votes.models]
    return replace(votes, categories={by: labels[votes.prompt]}), scores.scores[np.ix_(rows, known)]


def measured(
    folds: Folds, recipe: StaticRecipe, scores: np.ndarray, recognised: Scales | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each prompt, as left out: sum of the votes' losses, sum of their weights, gain of the LLM ranked first."""
    n_models = scores.shape[1]
    members = folds.members()
    base = folds.averaged(members)
    assert base is not None, "too few votes"
    how = recipe.lengths(len(scores))[-1]
    heads = folds.train(base, members, how, recipe.hidden_size, lambda: None, recognised)
    outputs, sums = folds.left_out(heads), LossSums(folds)
    table = sums.of(outputs, base, shares_to_try(None, folds.feedback, n_models))
    first = outputs[:, :n_models].numpy().argmax(1)
    gain = scores[np.arange(len(scores)), first] - scores[:, scores.mean(0).argmax()]
    return table[table.sum(1).argmin()], sums.weights, gain


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder with scores_train.parquet")
    parser.add_argument("--by", default="category", help="the column of categories")
    parser.add_argument("--prompts", type=int, help="so many random prompts (all)")
    parser.add_argument("--votes", type=int, help="so many random votes a prompt (all)")
    parser.add_argument("--weights", type=float, nargs="*", default=[3.0])
    parser.add_argument("--recognised", type=float, nargs="*", default=[0.25, 0.5, 0.75])
    parser.add_argument("--seed", type=int, default=0, help="of the draw, the folds and the training")
    args = parse(parser)
    torch.set_num_threads(THREADS)
    warnings.simplefilter("ignore", P2LWarning)  # few votes leave much open
    votes, scores = drawn(args.data / "scores_train.parquet", args.by, args.prompts, args.votes, args.seed)
    table, feedback = table_of(STATIC_MODEL), feedback_for(votes)
    recipe = StaticRecipe(feedback=feedback, seed=args.seed)
    spec = spec_of(votes, recipe, 1, {})
    tokens = PromptEncoder(spec, Tokenizer.from_str(table.tokenizer.to_str()))(votes.prompts)
    vectors = standardise(new_model(spec, table, recipe), tokens, recipe)
    plain = Folds.of(vectors, votes, ByPrompt.of_votes(votes, feedback), feedback, args.seed)
    category = largest(Categories.of(votes, args.by).number)
    words = WordFeatures.learned(tokens, category, plain.fold, len(table.vectors), args.seed, lambda: None)
    telling = plain.telling(category, words.beside(vectors, tokens))
    ways: list[tuple[str, Folds, Scales | None]] = [("votes alone", plain, None)]
    for weight in args.weights:
        taught = category_lessons(votes, args.by, feedback, weight, plain.fold, seed=args.seed)
        lessons = ByPrompt.of_votes(with_lessons(votes, taught), feedback)
        ways.append((f"taught {weight:g}", replace(plain, lessons=lessons), None))
    ways += [("words", telling, None)]
    for share in args.recognised:
        ways.append((f"words, {share:g} recognised", telling, Scales(share, share, len(votes.models))))
        ways.append((f"words, {share:g} of routes", telling, Scales(share, 0.0, len(votes.models))))
    without = None
    print("| prompts x votes | way | cross-entropy | difference | routed |\n|---|---|---|---|---|")
    for way, folds, share in ways:
        losses, weights, gain = measured(folds, recipe, scores, share)
        without = losses if without is None else without
        (routed, error), (less, apart) = mean_and_error(gain), mean_and_error(losses - without, weights)
        size = f"{len(votes.prompts):,} x {args.votes or 'all'}"
        loss = losses.sum() / weights.sum()
        print(
            f"| {size} | {way} | {loss:.4f} | {less:+.4f} ± {apart:.4f} | {routed:+.4f} ± {error:.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
