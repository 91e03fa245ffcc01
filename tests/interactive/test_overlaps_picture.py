"""The painted rectangles: IoU, oIoU, mIoU and P@0.5 as `measure.overlaps` has them, moved by hand and by keys."""

import pytest
from helpers.in_chromium import check_usable, computed, needs_chromium, shown
from numpy.testing import assert_allclose

from xattn_edu.interactive import overlaps
from xattn_edu.interactive.overlaps import scores


def check(page, targets):
    """Every number of the page against the masks of its rectangles."""
    found = computed(page)
    expected = scores(targets, found["painted"])
    assert [pair["intersection"] for pair in found["each"]] == expected.intersections.tolist()
    assert [pair["union"] for pair in found["each"]] == expected.unions.tolist()
    assert_allclose(found["iou"], expected.iou.numpy(), atol=1e-12)
    three = expected.oiou, expected.miou, expected.precision(0.5)
    assert_allclose([found["oiou"], found["miou"], found["precision"]], three, atol=1e-12)
    return found


@needs_chromium
@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1000, False), (480, True)])
def test_the_scores_are_those_of_the_library(tmp_path, width, dark):
    picture = overlaps()
    targets = picture.data["targets"]
    with shown(picture, tmp_path, width, dark) as page:
        check_usable(page)
        assert (check(page, targets)["intersections"], computed(page)["unions"]) == (146, 198)  # as in section 10.4
        page.get_by_role("application", name="hit").focus()
        for key, box in (
            ("ArrowLeft", [2, 2, 4, 4]),
            ("ArrowDown", [3, 2, 4, 4]),
            ("Shift+ArrowRight", [3, 2, 4, 5]),
            ("Shift+ArrowUp", [3, 2, 3, 5]),
        ):
            page.keyboard.press(key)
            assert check(page, targets)["painted"][0] == box
        assert page.locator("[aria-live]").inner_text().startswith("hit: IoU")
        for _ in range(20):
            page.keyboard.press("ArrowRight")  # the paint stays in the grid
        assert check(page, targets)["painted"][0] == [3, 11, 3, 5]
        for _ in range(4):
            page.keyboard.press("Shift+ArrowUp")
        assert check(page, targets)["painted"][0] == [3, 11, 0, 5]  # nothing is painted


@needs_chromium
@pytest.mark.browser
@pytest.mark.slow
def test_the_pointer_moves_the_paint_and_its_corner(tmp_path):
    picture = overlaps()
    targets = picture.data["targets"]
    with shown(picture, tmp_path) as page:
        mask = page.get_by_role("application", name="miss")
        box = mask.bounding_box()
        cell = box["width"] / 16.8  # the drawing has a rim of 0.4 cells

        def drag(start, rows, columns):
            y, x = box["y"] + (start[0] + 0.4) * cell, box["x"] + (start[1] + 0.4) * cell
            page.mouse.move(x, y)
            page.mouse.down()
            page.mouse.move(x + (columns + 0.3) * cell, y + (rows + 0.3) * cell, steps=5)
            page.mouse.up()
            return check(page, targets)["painted"][1]

        assert drag((9, 11), 1, 2) == [8, 11, 4, 4]
        assert drag((11.9, 14.9), 0, 1) == [8, 11, 4, 5]


@needs_chromium
@pytest.mark.browser
@pytest.mark.slow
def test_a_miss_has_two_objects_in_its_union(tmp_path):
    picture = overlaps()
    targets = picture.data["targets"]
    with shown(picture, tmp_path) as page:
        page.get_by_role("button", name="all hits").press("Enter")
        assert check(page, targets)["oiou"] == computed(page)["miou"] == 1
        page.get_by_role("button", name="start again").press("Enter")
        assert check(page, targets)["painted"] == picture.data["painted"]
        found = computed(page)
        sizes = [target[2] * target[3] for target in targets]
        assert found["each"][1] == {"intersection": 0, "union": 2 * sizes[1]}
