from __future__ import annotations

from support.association import candidate_pairs

from vos_ros.association.terms.bias import Bias


def test_every_pair_has_one() -> None:
    assert Bias().values(candidate_pairs(3)).tolist() == [1.0, 1.0, 1.0]
    assert Bias().values(candidate_pairs(0)).tolist() == []
