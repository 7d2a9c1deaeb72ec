"""Simple learners on sentence vectors, each made a router as a competent user would, with scikit-learn.

A learner gives a departure from the averaged leaderboard for a prompt: coefficients = averaged + scale x departure.
Its own setting (number of neighbours, penalty, rounds) and the scale (0 is the averaged leaderboard) are chosen
together, by the loss of the votes in five folds over the training prompts. From votes, a learner learns what they say
beyond the averaged leaderboard: at it, every vote pulls the coefficients of its two LLMs up or down (the gradient g of
its log-likelihood, with curvature h).

    kNN         sum of g / sum of h over the k most similar prompts (cosine)
    ridge       for each LLM, ridge regression of g / h with weights h
    logistic    the votes' own likelihood with coefficients linear in the vector, and an L2 penalty
    boosting    gradient boosting of the votes' likelihood: trees for all LLMs at once, Newton steps in their leaves

Where a prompt has the scores of all LLMs, each learns these instead: kNN the mean score of the neighbours, ridge the
scores, logistic whether the answer is right, boosting the same with `HistGradientBoostingClassifier`. The departure
of an LLM is then the logit of its predicted score minus that of its mean score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.tree import DecisionTreeRegressor
from training_draws import losses, rows_of

from p2l_sdk import Votes, fit_leaderboard
from p2l_sdk.leaderboards.leaderboard import Coefficients, Leaderboard
from p2l_sdk.modeling.feedback_p2l import Feedback, log_probability_derivatives, log_threshold, vote_targets

FOLDS = 5
SCALES = np.array([0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 4.5])
_ENOUGH = 5000  # votes of a fold by which settings are chosen
_LEAST = 0.02  # predicted scores stay this far from 0 and 1
_NEIGHBOURS = (5, 10, 20, 40, 80, 160, 320, 640)
_PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_ROUNDS = (10, 20, 40, 80, 160, 320)
_RATE, _DEPTH, _FEATURES, _RIDGE = 0.05, 3, 0.1, 5.0  # of boosting from votes


@dataclass(frozen=True)
class Known:
    """What a learner knows: votes, their prompts' vectors `(n_prompts, size)`, the averaged leaderboard, and, where
    they are known, all scores `(n_prompts, n_models)`."""

    votes: Votes
    vectors: np.ndarray
    board: Leaderboard
    scores: np.ndarray | None

    @classmethod
    def of(cls, votes: Votes, vectors: np.ndarray, scores: np.ndarray | None, feedback: Feedback) -> Known:
        """The same with the averaged leaderboard of the votes."""
        return cls(votes, vectors, fit_leaderboard(votes, feedback, intervals=None), scores)

    def part(self, chosen: np.ndarray) -> Known:
        """The part on some prompts (a mask), with an averaged leaderboard of its own."""
        scores = None if self.scores is None else self.scores[chosen]
        return Known.of(self.votes.subset(chosen), self.vectors[chosen], scores, self.board.feedback)

    def pulls(self, departure: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Gradient and curvature of the votes' log-likelihood, `(n_prompts, n_models)` each, at the averaged
        leaderboard plus a departure."""
        votes, n_models = self.votes, len(self.votes.models)
        coefs = self.board.coefs[None] if departure is None else self.board.coefs + departure
        row = np.zeros_like(votes.prompt) if departure is None else votes.prompt
        feedback, eta = self.board.feedback, self.board.eta
        log_s = float(log_threshold(feedback, np.array(eta))) if eta is not None else 0.0
        points = np.stack([coefs[row, votes.a], coefs[row, votes.b]])
        if departure is None:  # the same for all votes on a pair
            pair, number = np.unique(votes.a * n_models + votes.b, return_inverse=True)
            points = self.board.coefs[np.stack([pair // n_models, pair % n_models])]
        else:
            number = np.arange(len(votes))
        law, first, _ = log_probability_derivatives(feedback, points[0], points[1], np.full(points.shape[1], log_s))
        targets = vote_targets(feedback)[votes.winner]
        slope = np.einsum("vo,voi->vi", targets, first[number][..., :2])
        mean = np.einsum("vo,voi->vi", np.exp(law[number]), first[number][..., :2] ** 2)  # expected curvature
        sums = []
        for values in (slope, mean * targets.sum(1, keepdims=True)):
            flat = [np.bincount(votes.prompt * n_models + x, values[:, i], len(votes.prompts) * n_models)
                    for i, x in enumerate((votes.a, votes.b))]  # fmt: skip
            sums.append((flat[0] + flat[1]).reshape(-1, n_models))
        return sums[0], sums[1]


Learner = Callable[[Known, np.ndarray], list[np.ndarray]]  # departures for new vectors, one array for each setting


def _logit(share: np.ndarray) -> np.ndarray:
    share = np.clip(share, _LEAST, 1.0 - _LEAST)
    return np.log(share) - np.log1p(-share)


def _departure(known: Known, predicted: np.ndarray) -> np.ndarray:
    assert known.scores is not None
    return _logit(predicted) - _logit(known.scores.mean(0))


def knn(known: Known, new: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(-new @ known.vectors.T, 1, kind="stable")
    if known.scores is None:
        pull, curvature = known.pulls()
    found = []
    for k in _NEIGHBOURS:
        near = order[:, : min(k, order.shape[1])]
        if known.scores is None:
            found.append(pull[near].sum(1) / (curvature[near].sum(1) + 1e-3 + curvature.mean()))
        else:
            found.append(_departure(known, known.scores[near].mean(1)))
    return found


def ridge(known: Known, new: np.ndarray) -> list[np.ndarray]:
    if known.scores is not None:
        return [
            _departure(known, Ridge(alpha=alpha / 10).fit(known.vectors, known.scores).predict(new))
            for alpha in _PENALTIES
        ]
    pull, curvature = known.pulls()
    found = []
    for alpha in _PENALTIES:
        columns = []
        for g, h in zip(pull.T, curvature.T, strict=True):
            seen = h > 1e-9
            if not seen.any():
                columns.append(np.zeros(len(new)))
                continue
            model = Ridge(alpha=alpha / 10, fit_intercept=False).fit(known.vectors[seen], g[seen] / h[seen], h[seen])
            columns.append(model.predict(new))
        found.append(np.stack(columns, 1))
    return found


def logistic(known: Known, new: np.ndarray) -> list[np.ndarray]:
    if known.scores is not None:
        right, predicted = known.scores >= 0.5, []
        for penalty in _PENALTIES:
            columns = []
            for y in right.T:
                model = LogisticRegression(C=10 / penalty, max_iter=200)
                columns.append(
                    model.fit(known.vectors, y).predict_proba(new)[:, 1]
                    if len(set(y)) > 1
                    else np.full(len(new), y[0] * 1.0)
                )
            predicted.append(_departure(known, np.stack(columns, 1)))
        return predicted
    mean = known.vectors.mean(0)
    vectors, n_models = known.vectors - mean, len(known.votes.models)
    shape, found = (vectors.shape[1], n_models), []
    weights = np.zeros(shape)
    for penalty in reversed(_PENALTIES):

        def objective(flat: np.ndarray, penalty: float = penalty) -> tuple[float, np.ndarray]:
            w = flat.reshape(shape)
            departure = vectors @ w
            loss = log_loss(known.votes, known.board, departure) + 0.5 * penalty / 10 * (w**2).sum()
            return loss, (-vectors.T @ known.pulls(departure)[0] + penalty / 10 * w).ravel()

        solved = minimize(objective, weights.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 60})
        weights = solved.x.reshape(shape)
        found.append((new - mean) @ weights)
    return found[::-1]


def boosting(known: Known, new: np.ndarray) -> list[np.ndarray]:
    if known.scores is not None:
        return _boosted_scores(known, new)
    n_models = len(known.votes.models)
    departure, told, found = np.zeros((len(known.vectors), n_models)), np.zeros((len(new), n_models)), []
    for i in range(max(_ROUNDS)):
        pull, curvature = known.pulls(departure)
        tree = DecisionTreeRegressor(
            max_depth=_DEPTH, max_features=_FEATURES, min_samples_leaf=max(2, len(pull) // 100), random_state=i
        ).fit(known.vectors, pull)
        leaf = tree.apply(known.vectors)
        sums = [np.zeros((tree.tree_.node_count, n_models)) for _ in range(2)]
        for total, values in zip(sums, (pull, curvature), strict=True):
            np.add.at(total, leaf, values)
        step = _RATE * sums[0] / (sums[1] + _RIDGE)
        departure += step[leaf]
        told += step[tree.apply(new)]
        if i + 1 in _ROUNDS:
            found.append(told.copy())
    return found


def _boosted_scores(known: Known, new: np.ndarray) -> list[np.ndarray]:
    assert known.scores is not None
    rounds, columns = _ROUNDS[:-2], []
    for y in (known.scores >= 0.5).T:
        if len(set(y)) < 2:
            columns.append([np.full(len(new), y[0] * 1.0)] * len(rounds))
            continue
        model = HistGradientBoostingClassifier(
            max_iter=max(rounds), learning_rate=0.1, max_leaf_nodes=15, max_features=0.1, random_state=0
        ).fit(known.vectors, y)
        staged = [p[:, 1] for p in model.staged_predict_proba(new)]
        columns.append([staged[i - 1] for i in rounds])
    return [_departure(known, np.stack([c[i] for c in columns], 1)) for i in range(len(rounds))]


LEARNERS: dict[str, Learner] = {"kNN": knn, "ridge": ridge, "logistic": logistic, "boosting": boosting}


def coefficients(board: Leaderboard, departure: np.ndarray) -> Coefficients:
    """The averaged leaderboard plus a departure for each prompt."""
    eta, gamma = (None if x is None else np.full((len(departure), 1), x) for x in (board.eta, board.gamma))
    return Coefficients(board.coefs + departure, eta, gamma)


def log_loss(votes: Votes, board: Leaderboard, departure: np.ndarray) -> float:
    """The sum of -log P(outcome) over the votes."""
    return float(losses(coefficients(board, departure), board.feedback, votes, None).entropy.sum())


def cross_validated(learner: Learner, known: Known) -> np.ndarray:
    """Loss of the left-out votes, `(n_settings, n_scales)`."""
    fold = np.random.default_rng(0).permutation(len(known.vectors)) % FOLDS
    total = 0.0
    for i in range(FOLDS):
        rest, held = known.part(fold != i), _some(known.votes.subset(fold == i))
        departures = learner(rest, known.vectors[fold == i])
        total = total + np.array([[log_loss(held, rest.board, scale * d) for scale in SCALES] for d in departures])
    return np.asarray(total)


def _some(votes: Votes) -> Votes:
    """Enough of the votes to choose by."""
    if len(votes) <= _ENOUGH:
        return votes
    return rows_of(votes, np.sort(np.random.default_rng(0).choice(len(votes), _ENOUGH, replace=False)))


def learned(learner: Learner, known: Known, new: np.ndarray) -> tuple[np.ndarray, tuple[int, float]]:
    """The departures for new vectors, and the number of the setting and the scale that were chosen."""
    loss = cross_validated(learner, known)
    setting, scale = np.unravel_index(int(loss.argmin()), loss.shape)
    return SCALES[scale] * learner(known, new)[setting], (int(setting), float(SCALES[scale]))
