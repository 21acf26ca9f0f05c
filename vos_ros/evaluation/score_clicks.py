"""Score what became of clicks: objects that no map names, each followed by a track."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from vos_ros.evaluation.metrics import by_object
from vos_ros.evaluation.score import Truth, first_tracks, score_bag


def score_clicks(bag: Path | str, truth: Truth, clicked: Collection[int]) -> dict[str, float | int]:
    """Score the tracks of a bag that was recorded while a person clicked on objects.

    Args:
        bag: as for ``score_bag``.
        truth: of the recording.
        clicked: ids of the objects that were clicked on.

    Returns: the numbers of objects that were clicked on and of those for which a track began;
    the mean over the clicked objects of their mean IoU with that track (0 where there is none, and
    before it begins); the number of changes of the track on an object.
    """
    track_of = {o: t for t, o in first_tracks(bag, truth).items() if o in set(clicked)}
    score = score_bag(bag, truth, {t: o for o, t in track_of.items()})
    table = by_object(score.scored)
    rows = [table[o] for o in clicked if o in table]
    return {
        "objects_clicked": len(clicked),
        "objects_followed": len(track_of),
        "mean_iou": float(np.mean([r["mean_iou"] for r in rows])) if rows else float("nan"),
        "id_switches": int(sum(r["id_switches"] for r in rows)),
    }
