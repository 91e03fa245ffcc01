"""The exercises inside the lessons, all alike: open as stored, solved by the folded solution, never stopping."""

import re
from pathlib import Path

import pytest
from helpers.exercises import LESSONS, Exercise, causes_in, exercises_in, imported_in, verdict

from xattn_edu import exercises
from xattn_edu.homework.mistakes import MISTAKES

ALL = [pytest.param(exercise, id=exercise.name) for lesson in LESSONS for exercise in exercises_in(lesson)]


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_each_lesson_has_two_to_four_exercises(lesson: Path) -> None:
    assert 2 <= len(exercises_in(lesson)) <= 4


@pytest.mark.slow
@pytest.mark.parametrize("exercise", ALL)
def test_open_as_stored_and_solved_by_the_solution(exercise: Exercise, capsys) -> None:
    namespace = imported_in(exercise.lesson)
    exec(exercise.source, namespace)
    assert capsys.readouterr().out.startswith("○")
    (mine,) = re.findall(rf"exercises\.{exercise.name}\((\w+)\)", exercise.source)
    exec(exercise.solution, namespace)
    assert verdict(exercise.name, namespace[mine]).startswith("✓")


@pytest.mark.parametrize("exercise", ALL)
def test_code_that_stops_is_reported_not_raised(exercise: Exercise) -> None:
    def answer(*_):
        raise ZeroDivisionError("by me")

    assert "✗ answer stopped with ZeroDivisionError: by me" in verdict(exercise.name, answer)


def test_every_check_belongs_to_a_lesson() -> None:
    assert sorted(parameters.values[0].name for parameters in ALL) == exercises.__all__


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_the_catalogue_has_wrong_answers_for_each_exercise(lesson: Path) -> None:
    number = lesson.name[:2]
    listed = {mistake.exercise for mistake in MISTAKES if mistake.exercise.startswith(number)}
    assert listed == {f"{number}.{exercise.name}" for exercise in exercises_in(lesson)}


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_each_mistake_that_a_check_can_name_is_made_by_an_answer_of_the_catalogue(lesson: Path) -> None:
    number = lesson.name[:2]
    mistakes = [mistake for mistake in MISTAKES if mistake.exercise.startswith(number)]
    said = "\n".join(verdict(mistake.exercise.split(".")[1], mistake.answer) for mistake in mistakes)
    causes = causes_in(number)
    assert causes and [cause for cause in causes if cause not in said] == []
