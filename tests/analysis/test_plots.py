from __future__ import annotations

import itertools

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import colors, image

from tests.analysis.hostile import hostile_run
from trajweight.analysis.figures import figures
from trajweight.analysis.plots import COLOURS, save_plots
from trajweight.analysis.report import build_report

pytestmark = [pytest.mark.slow]

#: From linear RGB to what an eye without one kind of cone tells apart: Machado, Oliveira and
#: Fernandes, A physiologically-based model for simulation of color vision deficiency, IEEE TVCG
#: 15, 2009, table 1, severity 1.
BLIND = {
    "protan": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deutan": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritan": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    path = [
        {"temperature": heat, "ess_fraction": ess, "loss": loss}
        for heat, ess, loss in ((1.0, 0.5, 2.0), (2.0, 0.8, 2.2), (None, 1.0, 2.5))
    ]
    run = hostile_run(tmp_path_factory.mktemp("plots"))
    return build_report(run, {"tradeoff": path, "selected": "head", "temperature": 1.0})


@pytest.fixture(scope="module")
def saved(facts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "plots"
    return save_plots(facts, folder)


def test_every_figure_is_a_png_and_an_svg_under_its_own_name(facts, saved) -> None:
    names = [f"{figure.name}.{kind}" for figure in figures(facts) for kind in ("png", "svg")]

    assert [path.name for path in saved] == names
    for path in saved:
        if path.suffix == ".png":
            pixels = image.imread(path)
            assert pixels.shape[1] == 1120
            assert pixels[..., :3].std() > 0.05  # something is drawn


def test_equal_facts_give_equal_bytes(facts, saved, tmp_path) -> None:
    again = save_plots(facts, tmp_path)

    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in saved]
    assert all(b"<dc:date>" not in path.read_bytes() for path in saved)


def test_the_users_own_settings_neither_change_the_plots_nor_are_changed(
    facts, saved, tmp_path
) -> None:
    with mpl.rc_context({"lines.linewidth": 17.0, "font.size": 30.0}):
        before = dict(mpl.rcParams)
        again = save_plots(facts, tmp_path)
        assert dict(mpl.rcParams) == before

    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in saved]


def test_nothing_is_drawn_beyond_the_border_of_a_picture(saved) -> None:
    for path in saved:
        if path.suffix == ".png":
            pixels = image.imread(path)[..., :3]
            border = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
            assert all((side == 1.0).all() for side in border), path.name


@pytest.mark.parametrize("kind", ["nobody", *BLIND])
def test_colours_that_mean_different_things_differ_for_every_eye(kind) -> None:
    # other and bad never stand in one figure
    roles = ("main", "other", "good", "quiet")
    seen = {role: lab(COLOURS[role], kind) for role in roles}

    for one, two in itertools.combinations(roles, 2):
        # 2.3 is just noticeable; several times that is told apart at a glance
        assert np.linalg.norm(seen[one] - seen[two]) > 14, (one, two)


def lab(colour: str, kind: str) -> np.ndarray:
    """CIE L*a*b* of a colour as somebody sees it."""
    rgb = np.array(colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    if kind in BLIND:
        linear = np.clip(np.array(BLIND[kind]) @ linear, 0.0, 1.0)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = to_xyz @ linear / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
