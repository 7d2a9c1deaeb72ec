"""Many rows of a model's last layer at once, fitted to votes: the likelihood, its optimum and its uncertainty.

With f the features of a prompt (the last one is 1), the coefficient of LLM i is

    theta_i = offset_i + f . (scale_i @ y_i) + f . (scale_common @ y_common),       all y standard normal,

where the common row, a shift of all LLMs alike, exists only if such a shift has a meaning in the feedback model. The
tie threshold log(t - 1) is that of the prompt, or one more unknown with a normal prior.

The optimum is found by Fisher scoring: Newton's method with the expected second derivatives, which are never negative
and, in `bt`, are the exact ones. The Hessian consists of a block for each LLM and for each pair that met; it costs no
more than the votes times the square of the number of features.

Left out: the votes on one prompt are not independent, so all of them are left out together. With C the covariance of
the coefficients on the prompt given all votes, H the curvature of its own votes and g their gradient, the optimum
without them is, to second order, theta + (1 - C H)^-1 C g: exact for a quadratic loss, and no second fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2l_sdk.errors import ConvergenceError
from p2l_sdk.modeling.feedback_p2l import Feedback, log_probability_derivatives

_MAX_STEPS, _TOLERANCE, _MOST_LEVERAGE = 200, 1e-7, 0.98


@dataclass(frozen=True, eq=False)
class JointVotes:
    """Votes as arrays, at most one for each prompt and pair: outcomes of the same pair are added up.

    Attributes:
        feedback: the feedback model.
        n_models: number of LLMs that have a vote.
        features: `(n_prompts, width)`, the last column is 1.
        prompt, a, b: `(n_votes,)` indices, a < b, in the order of the pairs.
        targets: `(n_votes, n_outcomes)` weights of the outcomes' log-probabilities.
        log_s: `(n_prompts,)` log(t - 1), or the prior mean of that unknown.
        threshold: prior standard deviation of one shift of all log(t - 1); 0 if they are known.
    """

    feedback: Feedback
    n_models: int
    features: np.ndarray
    prompt: np.ndarray
    a: np.ndarray
    b: np.ndarray
    targets: np.ndarray
    log_s: np.ndarray
    threshold: float = 0.0

    @classmethod
    def of(
        cls,
        feedback: Feedback,
        n_models: int,
        features: np.ndarray,
        prompt: np.ndarray,
        a: np.ndarray,
        b: np.ndarray,
        targets: np.ndarray,
        log_s: np.ndarray,
        threshold: float = 0.0,
    ) -> JointVotes:
        """Bring votes into this form; `targets` are those of the votes as seen from side a (`vote_targets`)."""
        swapped = targets.copy()
        swapped[:, [0, 1]] = targets[:, [1, 0]]  # all other outcomes are symmetric
        targets = np.where((a > b)[:, None], swapped, targets)
        low, high = np.minimum(a, b).astype(np.int64), np.maximum(a, b)
        met, place = np.unique((low * n_models + high) * len(features) + prompt, return_inverse=True)
        total = np.stack([np.bincount(place, t, len(met)) for t in targets.T], 1)
        pair, prompt = np.divmod(met, len(features))
        return cls(feedback, n_models, features, prompt, *np.divmod(pair, n_models), total, log_s, threshold)

    def __len__(self) -> int:
        return len(self.prompt)

    @property
    def total(self) -> float:
        """Sum of the weights of the votes."""
        return float(self.targets.sum())

    def loss(
        self, theta_a: np.ndarray, theta_b: np.ndarray, log_s: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Negative log-likelihood of each vote, `(n_votes,)`, its gradient in (theta_a, theta_b, log s), `(n_votes,
        3)`, and its expected second derivatives, `(n_votes, 3, 3)`."""
        values, gradients, _ = log_probability_derivatives(self.feedback, theta_a, theta_b, log_s)
        weight = self.targets.sum(1)[:, None] * np.exp(values)
        fisher = np.matmul((weight[:, :, None] * gradients).transpose(0, 2, 1), gradients)
        slope = -np.matmul(self.targets[:, None, :], gradients)[:, 0]
        return -(self.targets * values).sum(1), slope, fisher


@dataclass(frozen=True, eq=False)
class JointPrior:
    """What is known of the rows before the votes.

    Attributes:
        offset: `(n_prompts, n_models)` coefficients at the prior's mean.
        scale: `(n_models, width, width)` a square root of each row's covariance.
        common: `(width,)` standard deviations of the common row; None if a shift has no meaning.
    """

    offset: np.ndarray
    scale: np.ndarray
    common: np.ndarray | None


@dataclass(frozen=True, eq=False)
class JointFit:
    """The optimum and its uncertainty.

    Attributes:
        rows: `(n_models, width)` departure of the rows from the prior's mean, without the common row.
        common: `(width,)` common row, zeros if there is none.
        threshold: shift of log(t - 1).
        covariance: `(n_models, n_models, width, width)` of the rows, the common row included.
        held_out: `(n_votes,)` negative log-likelihood of each vote, given the votes on all other prompts.
        loss: the same, given all votes.
    """

    rows: np.ndarray
    common: np.ndarray
    threshold: float
    covariance: np.ndarray
    held_out: np.ndarray
    loss: np.ndarray


class JointProblem:
    """Votes prepared for many fits with different priors."""

    def __init__(self, votes: JointVotes) -> None:
        self.votes = votes
        self.features = f = votes.features[votes.prompt]
        pair = votes.a.astype(np.int64) * votes.n_models + votes.b
        starts = np.flatnonzero(np.diff(pair, prepend=-1))
        ends = np.append(starts[1:], len(pair))
        self.pairs = [(int(votes.a[i]), int(votes.b[i]), slice(i, j)) for i, j in zip(starts, ends, strict=True)]
        self.f = f
        self._slots()

    def fit(self, prior: JointPrior, *, held_out: bool = True) -> JointFit:
        """The most probable rows.

        Args:
            prior: the prior.
            held_out: whether to compute the held-out losses and the covariance, which a final fit needs.

        Raises:
            ConvergenceError: no step lowers the loss though the gradient is not 0.
        """
        votes, size = self.votes, self.votes.features.shape[1]
        n_rows = votes.n_models + (prior.common is not None)
        scale = prior.scale if prior.common is None else np.concatenate([prior.scale, np.diag(prior.common)[None]])
        y = np.zeros(n_rows * size + (votes.threshold > 0))

        def at(y: np.ndarray) -> tuple[np.ndarray, ...]:
            rows = np.einsum("ikl,il->ik", scale, y[: n_rows * size].reshape(n_rows, size))
            shift = rows[-1] if prior.common is not None else 0.0
            theta = prior.offset + votes.features @ (rows[: votes.n_models] + shift).T
            log_s = votes.log_s + (votes.threshold * y[-1] if votes.threshold else 0.0)
            return theta, log_s, *self.votes.loss(*self._of_votes(theta, log_s))

        theta, log_s, loss, slope, fisher = at(y)
        for _ in range(_MAX_STEPS):
            gradient = self._gradient(slope, scale) + y
            hessian = self._hessian(fisher, scale)
            step = np.linalg.solve(hessian, gradient)
            decrement = float(gradient @ step)
            if decrement < _TOLERANCE:
                break
            before, length = loss.sum() + 0.5 * float(y @ y), 1.0
            while True:
                trial = y - length * step
                theta, log_s, loss, slope, fisher = at(trial)
                value = loss.sum() + 0.5 * float(trial @ trial)
                if value <= before - 1e-4 * length * decrement + 1e-12 * (1.0 + abs(before)):
                    break
                length /= 2.0
                if length < 1e-9:
                    raise ConvergenceError(
                        "the fit of the rows to the votes did not converge; are the model's coefficients extreme? "
                        "report this"
                    )
            y = trial
        rows = np.einsum("ikl,il->ik", scale, y[: n_rows * size].reshape(n_rows, size))
        covariance, with_s, of_s = self._covariance(hessian, scale)
        left = loss
        if held_out:
            left = self._left_out(theta, log_s, slope, fisher, covariance, with_s, of_s)
        return JointFit(
            rows=rows[: votes.n_models],
            common=rows[-1] if prior.common is not None else np.zeros(size),
            threshold=float(votes.threshold * y[-1]) if votes.threshold else 0.0,
            covariance=covariance,
            held_out=left,
            loss=loss,
        )

    def fixed(self, offset: np.ndarray) -> np.ndarray:
        """`(n_votes,)` negative log-likelihood of each vote for given coefficients `(n_prompts, n_models)`."""
        return self.votes.loss(*self._of_votes(offset, self.votes.log_s))[0]

    def _of_votes(self, theta: np.ndarray, log_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        p = self.votes.prompt
        return theta[p, self.votes.a], theta[p, self.votes.b], log_s[p]

    def _gradient(self, slope: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Gradient of the loss in y."""
        votes, n, width = self.votes, self.votes.n_models, self.votes.features.shape[1]
        cells = np.zeros((len(votes.features), n))
        np.add.at(cells, (votes.prompt, votes.a), slope[:, 0])
        np.add.at(cells, (votes.prompt, votes.b), slope[:, 1])
        rows = cells.T @ votes.features
        if len(scale) > n:
            rows = np.vstack([rows, rows.sum(0)])
        gradient = np.einsum("ikl,ik->il", scale, rows).reshape(len(scale) * width)
        return np.append(gradient, votes.threshold * slope[:, 2].sum()) if votes.threshold else gradient

    def _hessian(self, fisher: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Expected second derivatives of loss and prior in y."""
        votes, n, width = self.votes, self.votes.n_models, self.votes.features.shape[1]
        blocks = np.zeros((len(scale), width, len(scale), width))
        mixed = np.zeros((len(scale), width))
        for a, b, part in self.pairs:
            f, h = self.f[part], fisher[part]
            weighted = f.T @ (f[:, None, :] * h[:, (0, 1, 0), (0, 1, 1)][:, :, None]).reshape(len(f), -1)
            own_a, own_b, cross = weighted.reshape(width, 3, width).transpose(1, 0, 2)
            blocks[a, :, a] += own_a
            blocks[b, :, b] += own_b
            blocks[a, :, b] += cross
            blocks[b, :, a] += cross
            mixed[a] += h[:, 0, 2] @ f
            mixed[b] += h[:, 1, 2] @ f
        if len(scale) > n:
            blocks[n] = blocks[:n].sum(0)
            blocks[:, :, n] = blocks[:, :, :n].sum(2)
            mixed[n] = mixed[:n].sum(0)
        # into the unknowns y: L' B L, block by block
        left = np.matmul(scale.transpose(0, 2, 1), blocks.reshape(len(scale), width, -1))
        both = np.matmul(left.reshape(-1, len(scale), width).transpose(1, 0, 2), scale).transpose(1, 0, 2)
        size = len(scale) * width
        hessian = both.reshape(size, size) + np.eye(size)
        if not votes.threshold:
            return hessian
        column = np.einsum("ikl,ik->il", scale, mixed).reshape(size) * votes.threshold
        corner = fisher[:, 2, 2].sum() * votes.threshold**2 + 1.0
        return np.block([[hessian, column[:, None]], [column[None], np.array([[corner]])]])

    def _covariance(self, hessian: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Covariances of the rows (with the common one) among themselves `(n, n, width, width)`, with log s `(n,
        width)`, and the variance of log s."""
        n, width = self.votes.n_models, self.votes.features.shape[1]
        size = len(scale) * width
        inverse = np.linalg.inv(hessian)
        blocks = inverse[:size, :size].reshape(size, len(scale), width).transpose(1, 0, 2)
        half = np.matmul(blocks, scale.transpose(0, 2, 1)).transpose(1, 0, 2).reshape(len(scale), width, -1)
        full = np.matmul(scale, half).reshape(len(scale), width, len(scale), width).transpose(0, 2, 1, 3)
        mixed, corner = np.zeros((len(scale), width)), 0.0
        if self.votes.threshold:
            mixed = np.einsum("ikl,il->ik", scale, inverse[:size, -1].reshape(len(scale), width))
            mixed, corner = mixed * self.votes.threshold, float(inverse[-1, -1] * self.votes.threshold**2)
        if len(scale) > n:
            full = full[:n, :n] + full[:n, n:] + full[n:, :n] + full[n:, n:]
            mixed = mixed[:n] + mixed[n:]
        return full, mixed, corner

    # --- leaving out one prompt -----------------------------------------------------------------------------------

    def _slots(self) -> None:
        """Number the LLMs of each prompt: slot_a, slot_b of each vote, and all pairs of LLMs by prompt."""
        votes, n = self.votes, self.votes.n_models
        cells = np.unique(np.concatenate([votes.prompt * n + votes.a, votes.prompt * n + votes.b]))
        prompt, model = np.divmod(cells, n)
        first = np.searchsorted(prompt, np.arange(len(votes.features)))
        slot = np.arange(len(cells)) - first[prompt]
        self.cells = prompt, model, slot
        self.most = int(slot.max()) + 1
        self.slot_a = slot[np.searchsorted(cells, votes.prompt * n + votes.a)]
        self.slot_b = slot[np.searchsorted(cells, votes.prompt * n + votes.b)]
        models = np.full((len(votes.features), self.most), -1)
        models[prompt, slot] = model
        i, j = np.triu_indices(self.most)
        met = (models[:, i] >= 0) & (models[:, j] >= 0)
        place, which = np.nonzero(met)
        key = models[place, i[which]] * n + models[place, j[which]]
        order = np.argsort(key, kind="stable")
        key, place, which = key[order], place[order], which[order]
        starts = np.flatnonzero(np.diff(key, prepend=-1))
        ends = np.append(starts[1:], len(key))
        self.together = [
            (int(key[s] // n), int(key[s] % n), place[s:e], i[which[s:e]], j[which[s:e]])
            for s, e in zip(starts, ends, strict=True)
        ]

    def _left_out(
        self,
        theta: np.ndarray,
        log_s: np.ndarray,
        slope: np.ndarray,
        fisher: np.ndarray,
        covariance: np.ndarray,
        with_s: np.ndarray,
        of_s: float,
    ) -> np.ndarray:
        votes, n = self.votes, len(self.votes.features)
        size, features = self.most + 1, votes.features  # the last unknown of a prompt is log s
        c, h, g = np.zeros((n, size, size)), np.zeros((n, size, size)), np.zeros((n, size))
        for i, j, place, slot_i, slot_j in self.together:
            f = features[place]
            values = ((f @ covariance[i, j]) * f).sum(1)
            c[place, slot_i, slot_j] = values
            c[place, slot_j, slot_i] = values
        prompt, model, slot = self.cells
        c[prompt, slot, -1] = c[prompt, -1, slot] = (features[prompt] * with_s[model]).sum(1)
        c[:, -1, -1] = of_s
        slots = np.stack([self.slot_a, self.slot_b, np.full(len(votes), size - 1)], 1)
        np.add.at(g, (votes.prompt[:, None], slots), slope)
        np.add.at(h, (votes.prompt[:, None, None], slots[:, :, None], slots[:, None, :]), fisher)
        push = np.matmul(c, g[:, :, None])
        moved = np.linalg.solve(np.eye(size) - _MOST_LEVERAGE * np.matmul(c, h), push)[:, :, 0]
        p = votes.prompt
        a, b, s = self._of_votes(theta, log_s)
        return votes.loss(a + moved[p, self.slot_a], b + moved[p, self.slot_b], s + moved[p, -1])[0]
