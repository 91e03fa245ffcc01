"""What platforms hand out becomes one folder a student, and nothing else is written."""

import io
import json
import zipfile
from pathlib import PurePosixPath

import pytest

from xattn_edu.grading.collect import collect, student_of

NOTEBOOK = json.dumps({"cells": []}).encode()


def archive(files):
    payload = io.BytesIO()
    with zipfile.ZipFile(payload, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return payload.getvalue()


def put(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("place", "student"),
    [
        ("Ada Lovelace_12345_assignsubmission_file_/hw1.ipynb", "Ada Lovelace"),
        ("Ada Lovelace_12345_assignsubmission_file_hw1.ipynb", "Ada Lovelace"),
        ("lovelaceada_1234_5678_hw1.ipynb", "lovelaceada"),
        ("lovelaceada_late_1234_5678_hw1-2.ipynb", "lovelaceada"),
        ("ada/hw1/hw1.ipynb", "ada"),  # nbgrader's own
        ("hw1/ada/hw1.ipynb", "ada"),
        ("ada-hw1.ipynb", "ada"),
        ("hw1_ada.ipynb", "ada"),
        ("hw1.ipynb", "hw1"),
        ("김민준_1_assignsubmission_file_/hw1.ipynb", "김민준"),
        ("O'Neil, Ann-Marie/a.ipynb", "O'Neil, Ann-Marie"),
        ("a:b?/x.ipynb", "a_b_"),
        ("....ipynb", "unnamed"),
    ],
)
def test_the_name_of_a_student(place, student):
    assert student_of(PurePosixPath(place), "hw1") == student


def test_a_decomposed_name_and_a_composed_one_are_one_student():
    one, other = (student_of(PurePosixPath(f"{name}/a.ipynb"), "hw1") for name in ("김", "\u1100\u1175\u11b7"))
    assert one == other == "김"


def test_folders_archives_and_archives_in_archives(tmp_path):
    inner = archive({"hw1.ipynb": NOTEBOOK, "picture.png": b"x"})
    handed_in = put(
        tmp_path / "in",
        {
            "ada/hw1.ipynb": NOTEBOOK,
            "ada/.ipynb_checkpoints/hw1.ipynb": b"old",
            "bo_1_assignsubmission_file_/work.zip": inner,
            "cy.zip": inner,
            "notes.txt": b"x",
        },
    )
    found = collect(handed_in, tmp_path, "hw1")
    assert found.students == {"ada": 1, "bo": 1, "cy": 1} and not found.left_out
    assert sorted(path.relative_to(tmp_path / "submitted").as_posix() for path in tmp_path.glob("submitted/*/*/*")) == [
        "hw1/ada/hw1.ipynb",
        "hw1/bo/hw1.ipynb",
        "hw1/cy/hw1.ipynb",
    ]
    whole = put(tmp_path, {"all.zip": archive({"dee_3_assignsubmission_file_/x.zip": inner, "eve/a.ipynb": NOTEBOOK})})
    assert collect(whole / "all.zip", tmp_path, "hw1").students == {"dee": 1, "eve": 1}


def test_two_notebooks_of_one_student_are_both_kept_and_the_same_one_once(tmp_path):
    put(tmp_path / "in", {"ada/hw1.ipynb": NOTEBOOK})
    for _ in range(2):
        collect(tmp_path / "in", tmp_path, "hw1")
    put(tmp_path / "in", {"ada/hw1.ipynb": NOTEBOOK + b" "})
    collect(tmp_path / "in", tmp_path, "hw1")
    assert sorted(path.name for path in (tmp_path / "submitted/hw1/ada").iterdir()) == ["hw1 2.ipynb", "hw1.ipynb"]


@pytest.mark.parametrize(
    ("files", "remark"),
    [
        ({"ada.zip": b"no archive"}, "a damaged archive"),
        ({"ada.zip": archive({"\u00e9.ipynb": NOTEBOOK}).replace(b"\xc3\xa9", b"\xff\xff")}, "a damaged archive"),
        ({"ada.zip": archive({"hw1.ipynb": bytes(range(256)) * 99})[:40] + b"x" * 99}, "a damaged archive"),
        ({"ada.zip": archive({"hw1.ipynb": b" " * (21 << 20)})}, "larger than 20 MB"),
        ({"ada.zip": archive({f"{n}.txt": b"\0" * (300 << 20) for n in range(4)})}, "unpacks to more than 1024 MB"),
        ({"ada/hw1.ipynb": b" " * (21 << 20)}, "larger than 20 MB"),
    ],
)
def test_what_cannot_be_taken_is_said_and_stops_nobody(tmp_path, files, remark):
    found = collect(put(tmp_path / "in", files | {"bo/hw1.ipynb": NOTEBOOK}), tmp_path, "hw1")
    assert found.students == {"bo": 1} and remark in found.left_out[0]


def test_two_students_of_one_name_stay_two(tmp_path):
    moodle = {f"Ada Kim_{number}_assignsubmission_file_/hw1.ipynb": NOTEBOOK for number in (31, 32)}
    found = collect(
        put(tmp_path / "in", moodle | {"bo_1_2_hw1.ipynb": b"{}", "bo_1_3_hw1.ipynb": NOTEBOOK}), tmp_path, "hw1"
    )
    assert found.students == {"Ada Kim (31)": 1, "Ada Kim (32)": 1, "bo": 2}


def test_the_newest_is_known_by_the_platforms_time(tmp_path):
    payload = io.BytesIO()
    with zipfile.ZipFile(payload, "w") as made:
        made.writestr(zipfile.ZipInfo("ada/b.ipynb", (2026, 3, 1, 12, 0, 0)), NOTEBOOK)
        made.writestr(zipfile.ZipInfo("ada/a.ipynb", (2026, 3, 2, 12, 0, 0)), NOTEBOOK)
        made.writestr(zipfile.ZipInfo("ada/c.ipynb", (2020, 0, 0, 0, 0, 0)), NOTEBOOK)
    (tmp_path / "all.zip").write_bytes(payload.getvalue())
    collect(tmp_path / "all.zip", tmp_path, "hw1")
    times = {path.stem: path.stat().st_mtime for path in (tmp_path / "submitted/hw1/ada").iterdir()}
    assert sorted(times, key=times.__getitem__) == ["c", "b", "a"]


def test_no_archive_writes_outside(tmp_path):
    hostile = archive({"../../evil.ipynb": NOTEBOOK, "/etc/evil.ipynb": NOTEBOOK})
    collect(put(tmp_path / "in", {"ada.zip": hostile}), tmp_path / "course", "hw1")
    assert {path.name for path in tmp_path.rglob("evil*.ipynb")} == {"evil.ipynb"}
    assert all(path.is_relative_to(tmp_path / "course" / "submitted") for path in tmp_path.rglob("evil*.ipynb"))


def test_nothing_to_collect_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        collect(tmp_path / "nowhere", tmp_path, "hw1")
    with pytest.raises(ValueError, match=r"no notebook \(.ipynb\) was found"):
        collect(put(tmp_path / "in", {"a.txt": b""}), tmp_path, "hw1")


@pytest.mark.parametrize(
    ("files", "students"),
    [
        (["submissions/ada/a.ipynb", "submissions/bo/b.ipynb"], ["ada", "bo"]),
        (["all/Ada_1_assignsubmission_file_a.ipynb", "all/Bo_2_assignsubmission_file_a.ipynb"], ["Ada", "Bo"]),
        (["ada/hw1/a.ipynb", "ada/hw1/b.ipynb"], ["ada"]),
        (["ada/a.ipynb", "ada/b.ipynb"], ["ada"]),
    ],
)
@pytest.mark.parametrize("name", ["all.zip", "ALL.ZIP"])
def test_a_folder_around_all_students_is_none_of_them(tmp_path, files, students, name):
    handed_in = put(tmp_path, {name: archive(dict.fromkeys(files, NOTEBOOK))}) / name
    assert sorted(collect(handed_in, tmp_path / "course", "hw1").students) == students
