"""The picture of an evaluation: calibration, with the study of subsets beside it."""

from __future__ import annotations

from p2l_sdk import pictures
from p2l_sdk.evaluation.metrics.calibration import Reliability
from p2l_sdk.evaluation.subsets import SubsetStudy


def save_evaluation(path: str, curve: Reliability, study: SubsetStudy | None = None) -> None:
    """Save the reliability curve, with the study of subsets beside it if there is one, as a .png, .pdf or .svg file.

    Raises:
        MissingExtraError: matplotlib is not installed.
        P2LError: the file has another suffix, or cannot be written.
    """
    pictures.check_picture(path)
    widths = [4.8] if study is None else [4.8, 6.0]
    figure, axes = pictures.require_pyplot().subplots(
        1, len(widths), figsize=(sum(widths), 4.8), width_ratios=widths, layout="constrained", squeeze=False
    )
    curve.plot(axes[0, 0])
    if study is not None:
        study.plot(axes[0, 1])
    pictures.save(figure, path, dpi=150)
