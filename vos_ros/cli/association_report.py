"""Print, write and draw the outcomes of ``vos-ros eval association``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vos_ros.cli.report import Figure
    from vos_ros.evaluation.association import Outcome
    from vos_ros.evaluation.score import Truth

_COLUMNS = {
    "f1": "f1",
    "f1_margin": "margin",
    "precision": "precis.",
    "recall": "recall",
    "id_switches": "switches",
    "alike_swaps": "swaps",
    "alike_wrong": "mixed",
    "idf1": "idf1",
    "hota": "hota",
    "mean_iou": "mean_iou",
    "returns": "returns",
    "returns_recognised": "known",
    "reidentify_s_p50": "after s",
}
_OURS = {"ece": "ece", "absent_precision": "absent p", "absent_recall": "absent r"}


def flat(outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, Figure]:
    """Return flat keys FIGURE[_CONDITION][_BASELINE]; those of the first condition carry no
    condition.
    """
    from vos_ros.evaluation.association import pooled

    out: dict[str, Figure] = {}
    for place, (condition, some) in enumerate(outcomes.items()):
        for method, figures in pooled(some).items():
            suffix = (f"_{condition}" if place else "") + (
                f"_{method}" if method != "vos_ros" else ""
            )
            out.update({f"{k}{suffix}": v for k, v in figures.items()})
    return out


def table(outcomes: Mapping[str, Sequence[Outcome]]) -> str:
    """Return one line per condition and way of naming; ``margin``: by how much our F1 is higher."""
    from vos_ros.evaluation.association import pooled

    heads = {**_COLUMNS, **_OURS}
    lines = [f"{'condition':18s} {'named by':11s}" + "".join(f" {h:>8s}" for h in heads.values())]
    for condition, some in outcomes.items():
        for method, figures in pooled(some).items():
            cells = (_cell(figures[k]) if k in figures else " " * 8 for k in heads)
            lines.append(f"{condition:18s} {method:11s} " + " ".join(cells))
    return "\n".join(lines)


def _cell(value: float | int) -> str:
    return f"{value:8d}" if isinstance(value, int) else f"{value:8.4f}"


def details(outcome: Outcome, truth: Truth) -> str:
    """Return the look-alikes, returns and unmapped objects of one sequence as text."""
    record = outcome.records["vos_ros"]
    lines = [
        "look-alikes: id switches within the group, frames with a wrong name of the group,"
        " of frames with an instance on one"
    ]
    for group, m in record.mixed().items():
        ids = ", ".join(str(o) for o, g in sorted(truth.alike.items()) if g == group)
        lines.append(f"  {f'{group} ({ids})':28s} {m.swaps:4d} {m.wrong:5d} of {m.frames}")
    lines.append("returns: away s, named rightly after s")
    for o, some in record.returns().items():
        told = "; ".join(
            f"{r.back_s - r.left_s:.1f} "
            + ("never" if r.wait_s == float("inf") else f"{r.wait_s:.1f}")
            for r in some
        )
        lines.append(f"  {_named(o, truth):28s} {told}")
    if outcome.unmapped:
        lines.append("objects that the map lacks: status of the instance on them, number of frames")
        for o, said in sorted(outcome.unmapped.items()):
            lines.append(f"  {_named(o, truth):28s} {_counts(said)}")
    return "\n".join(lines)


def _named(o: int, truth: Truth) -> str:
    return f"{o} {truth.names.get(o, '')}".strip()


def _counts(said: Counter[str]) -> str:
    return ", ".join(f"{what} {n}" for what, n in said.most_common())


def plot(outcomes: Mapping[str, Sequence[Outcome]], path: str) -> None:
    """Draw F1 by condition and way of naming (left) and the calibration of the scores (right)."""
    import matplotlib
    import numpy as np

    from vos_ros.evaluation.association import calibrated, pooled

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(13, 4.5), width_ratios=(2, 1), layout="constrained"
    )
    means = {condition: pooled(some) for condition, some in outcomes.items()}
    methods = list(next(iter(means.values())))
    for k, method in enumerate(methods):
        places = np.arange(len(means)) + (k - (len(methods) - 1) / 2) * 0.8 / len(methods)
        left.bar(
            places, [m[method]["f1"] for m in means.values()], 0.8 / len(methods), label=method
        )
    left.set_xticks(range(len(means)), list(means), rotation=20, ha="right")
    left.set_ylabel("association F1")
    left.set_ylim(0, 1)
    left.legend(loc="lower left")
    right.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for condition, some in outcomes.items():
        c = calibrated(some)
        right.plot(
            c.score[c.count > 0], c.right[c.count > 0], marker="o", markersize=3, label=condition
        )
    right.set_xlabel("score")
    right.set_ylabel("share of right names")
    right.legend(fontsize=7)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
