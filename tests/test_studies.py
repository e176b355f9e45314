"""Every study at smoke size: its claims hold and its rivals fall."""

import pytest

from validation.study import check, discover, find


@pytest.mark.parametrize("name", discover())
def test_study_holds(name):
    outcome = check(find(name))
    failed = [f"{v.statement}: {v.value:.3g} > {v.tolerance:.3g}" for v in outcome.verdicts if not v.holds]
    standing = [r.belief for r in outcome.refutations if not r.holds]
    assert not failed, failed
    assert not standing, standing
