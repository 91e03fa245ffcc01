"""The course's sets, graded as a student's notebook is: sources have all points, releases are not attempted."""

import json
import sys

import pytest

from xattn_edu.grading import commands, sheets
from xattn_edu.grading.forkserver import ForkServer
from xattn_edu.grading.judging import Assignment, judge_submission
from xattn_edu.grading.record import Graded
from xattn_edu.homework import SETS

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the server is Linux's")]
SEEDS = [17, 1_234_567_890]


@pytest.fixture(scope="module")
def start():
    with ForkServer() as server:
        yield server.copy


@pytest.mark.parametrize("name", SETS)
def test_a_source_has_all_points_and_a_release_is_not_attempted(name, start):
    opened = commands.open_sheet(name)
    assert sum(one.points for one in opened.exercises.values()) + sum(opened.written.values()) == 100
    records = {}
    for kind, notebook in {"source": opened.source, "release": sheets.released(opened.source)}.items():
        record = records[kind] = Graded(kind, name)
        payload = json.dumps(notebook).encode()
        judge_submission(
            record, {f"{name}.ipynb": payload}, Assignment(name, opened.source, opened.exercises), SEEDS, start
        )
    source, release = records["source"], records["release"]
    assert {key: outcome.words for key, outcome in source.outcomes.items() if outcome.kind != "right"} == {}
    assert source.points == source.out_of and source.remarks == [] and set(source.written) == set(opened.written)
    assert {outcome.kind for outcome in release.outcomes.values()} == {"not attempted"}
    assert release.remarks == [] and release.written == {}
