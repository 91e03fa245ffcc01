"""Experiments drawn in the browser: intervals and power as `measure.intervals` has them, spreads as stored."""

from statistics import NormalDist

import numpy as np
import pytest
from helpers.in_chromium import check_usable, computed, needs_chromium, shown
from numpy.testing import assert_allclose

from xattn_edu.experiments import load_results
from xattn_edu.interactive import seeds
from xattn_edu.interactive.seeds import SPREADS
from xattn_edu.measure.intervals import mean_interval, power_of, student_t


@pytest.mark.parametrize(("name", "experiment"), SPREADS.items())
def test_the_spread_is_that_of_the_stored_leads(name, experiment):
    runs = [run for run in load_results(experiment) if run["profile"] == "ci"]
    (found,) = (spread for spread in seeds().data["spreads"] if spread["name"] == name)
    both = [{run["seed"]: run["mIoU"] for run in runs if run["model"] == model} for model in ("lavt", "lavt_pwam")]
    leads = [100 * (both[0][seed] - both[1][seed]) for seed in sorted(both[0])]
    assert_allclose(found["leads"], leads, atol=1e-9)
    assert_allclose(found["deviation"], np.std(leads, ddof=1), rtol=1e-9)


@pytest.mark.parametrize("lead", [-0.5, 11])
def test_a_lead_outside_the_slider_is_refused(lead):
    with pytest.raises(ValueError, match="lead must be 0 to 10"):
        seeds(lead)


@needs_chromium
@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1000, False), (480, True)])
def test_experiments_and_power_are_those_of_the_library(tmp_path, width, dark):
    picture = seeds()
    first, finer = picture.data["spreads"]
    with shown(picture, tmp_path, width, dark) as page:
        check_usable(page)
        slider = page.get_by_role("slider", name="seeds")
        for count, lead in ((2, 0), (3, 0), (len(first["leads"]), 2.5), (40, 2.5), (119, 10), (120, 10)):
            slider.fill(str(count))
            page.get_by_role("slider", name="true lead").fill(str(lead))
            page.get_by_role("button", name="draw 1 experiment").press("Enter")
            found = computed(page)
            assert (found["seeds"], found["lead"], found["count"]) == (count, lead, 1)
            assert_allclose(found["t"], student_t(0.95, count - 1), rtol=1e-6)
            assert_allclose(found["exact"], power_of(count, lead, first["deviation"]), atol=1e-4)
            shift, normal = lead * count**0.5 / first["deviation"], NormalDist()
            edge = normal.inv_cdf(0.975)
            expected = normal.cdf(shift - edge) + normal.cdf(-shift - edge)
            assert_allclose(found["approximate"], expected, atol=1e-4)
            last = found["last"]
            assert len(last["leads"]) == count
            assert_allclose([last["mean"], last["half"]], mean_interval(last["leads"]), rtol=1e-6)
            assert last["shown"] == (abs(last["mean"]) > last["half"]) and found["shown"] == last["shown"]
        page.get_by_label("spread of").select_option("1")
        assert computed(page)["deviation"] == finer["deviation"] and computed(page)["count"] == 0


@needs_chromium
@pytest.mark.browser
@pytest.mark.slow
def test_the_drawn_leads_are_normal_and_the_share_is_near_the_power(tmp_path):
    picture = seeds()
    with shown(picture, tmp_path) as page:
        draw = page.get_by_role("button", name="draw 100")
        for _ in range(30):
            draw.press("Enter")
        found = computed(page)
        assert found["count"] == 3000
        error = (found["exact"] * (1 - found["exact"]) / 3000) ** 0.5
        assert abs(found["shown"] / 3000 - found["exact"]) < 4 * error
        leads = []
        page.get_by_role("slider", name="seeds").fill("120")
        for _ in range(30):
            page.get_by_role("button", name="draw 1 experiment").press("Enter")
            leads += computed(page)["last"]["leads"]
        scaled = (np.array(leads) - 2.5) / picture.data["spreads"][0]["deviation"]
        assert len(set(leads)) == 3600  # no number is drawn twice
        assert abs(scaled.mean()) < 0.07 and abs(scaled.std() - 1) < 0.05 and abs((scaled**4).mean() - 3) < 0.5
        page.get_by_role("button", name="start again").press("Enter")
        assert computed(page)["count"] == 0
