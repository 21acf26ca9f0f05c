from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from support.association import (
    candidate_pairs,
    frame_evidence,
    map_object,
    projection,
    rect,
)

import vos_ros.association.terms as package
from vos_ros.association.assignment import HungarianAssociator
from vos_ros.association.candidates import CandidatePairs
from vos_ros.association.likelihood import fitted_columns
from vos_ros.association.registry import Term, register, registered, unregister
from vos_ros.config import Config, ConfigError, from_flat, option, params

FOLDER = Path(package.__path__[0])
TERMS = registered()
DOCS = Path(__file__).parents[2] / "docs" / "association.md"


def test_every_file_of_the_package_is_a_term_with_a_test_of_its_own() -> None:
    files = {f.stem for f in FOLDER.glob("*.py")} - {"__init__"}
    assert files == {t.name for t in TERMS}
    tests = {f.stem for f in (Path(__file__).parent / "terms").glob("test_*.py")}
    assert {f"test_{name}" for name in files} <= tests


@pytest.mark.parametrize("term", TERMS, ids=lambda t: t.name)
def test_every_term_has_a_line_in_the_docs(term: type[Term]) -> None:
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    assert any(line.startswith(f"| `{term.name}` |") for line in lines)


@pytest.mark.parametrize("term", TERMS, ids=lambda t: t.name)
def test_every_term_says_what_it_is(term: type[Term]) -> None:
    assert term.meaning and "\n" not in term.meaning
    assert isinstance(term.weight, float)


@pytest.mark.parametrize("term", TERMS, ids=lambda t: t.name)
@pytest.mark.parametrize("n", [0, 1, 3])
def test_every_term_has_a_value_per_pair(term: type[Term], n: int) -> None:
    objects = {11: map_object(11), 12: map_object(12)}
    pairs = candidate_pairs(n, frame_evidence({}, objects=objects), track_px=9, mask_px=4)
    values = term().values(pairs)
    assert values.shape == (n,) and values.dtype == np.float64


def test_the_sum_keeps_its_order() -> None:
    """Other orders round differently: scores of old recordings would no longer be equal."""
    assert [c.key for c in fitted_columns()][:8] == [
        "bias.weight",
        "tolerant_iou.weight",
        "mask_iou.weight",
        "depth_inliers.weight",
        "overlap_3d.weight",
        "depth_inliers.weight_unknown",
        "similarity.weight",
        "similarity.weight_unknown",
    ]


def test_the_weights_are_parameters() -> None:
    known = {p.key: p for p in params(Config) if p.key.startswith("association.terms.")}
    for term in TERMS:
        weight = known.pop(f"association.terms.{term.name}.weight")
        assert weight.default == term.weight and term.meaning in weight.help
        if term.weight_unknown is not None:
            unknown = known.pop(f"association.terms.{term.name}.weight_unknown")
            assert unknown.default == term.weight_unknown
    assert not known


@pytest.mark.parametrize(
    ("key", "weight"),
    [("bias.weight", 100.1), ("mask_iou.weight", -100.1), ("class_conflict.weight", 0.1)],
)
def test_a_weight_out_of_bounds_is_refused(key: str, weight: float) -> None:
    """A conflict never counts for a pair: it had the other sign in former configurations."""
    with pytest.raises(ConfigError, match=key):
        from_flat({f"association.terms.{key}": weight})


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match="bias"):
        register(TERMS[0])


@dataclass(frozen=True)
class ExampleOptions:
    limit: float = option(0.5, "an option of its own", low=0.0, high=1.0)


class Example(Term):
    """As somebody else would write one: it keeps state, has an option, and reads the map."""

    name = "example"
    meaning = "1 where the object's embedding is large, unknown where it has none"
    weight = 3.0
    weight_unknown = -2.0
    own_options = ExampleOptions

    def values(self, pairs: CandidatePairs) -> np.ndarray:
        objects = pairs.frame.objects
        embeddings = [objects[o].embedding for o in pairs.object_ids.tolist()]
        norms = np.array([math.nan if e is None else np.linalg.norm(e) for e in embeddings])
        return np.where(np.isnan(norms), norms, norms > self.options.limit)


@pytest.fixture
def example() -> Iterator[type[Term]]:
    register(Example)
    yield Example
    unregister(Example)


def test_a_new_term_is_weighed_reported_fitted_and_configured(example: type[Term]) -> None:
    track = rect(10, 10, 30, 30)
    embedding = np.full(4, 1.0, np.float32)
    objects = {7: map_object(7, embedding=embedding)}
    frame = frame_evidence({1: track}, [projection(7, track)], objects=objects)

    def match(**values: float) -> tuple[float, float]:
        flat = {f"association.terms.example.{k}": v for k, v in values.items()}
        (m,) = HungarianAssociator(from_flat(flat).association)(frame).matches
        assert m.evidence is not None
        odds = m.evidence.score / (1 - m.evidence.score)
        return math.log(odds), m.evidence.value("example")

    without, value = match(weight=0.0)
    assert value == 1.0
    assert match()[0] == pytest.approx(without + 3.0)
    assert match(weight=-1.0)[0] == pytest.approx(without - 1.0)
    embedding[1:] = 0.0
    below, value = match(limit=1.0)
    assert value == 0.0 and below == pytest.approx(without)
    fitted = [c.key for c in fitted_columns()]
    assert {"example.weight", "example.weight_unknown"} <= set(fitted)
    frame = frame_evidence({1: track}, [projection(7, track)], objects={7: map_object(7)})
    unknown, value = match()
    assert math.isnan(value) and unknown == pytest.approx(without - 2.0)
