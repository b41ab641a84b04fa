"""The page as people meet it: opened, sorted, searched, read, light and dark, wide and narrow."""

from __future__ import annotations

import pytest

from tests.analysis.hostile import ATTACKS, hostile_run
from tests.browser import needs_browser, running_browser
from trajweight.analysis.html import page
from trajweight.analysis.html_rows import rows_of
from trajweight.analysis.report import build_report

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def browser():
    with running_browser() as found:
        yield found


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    run = hostile_run(folder)
    facts = build_report(run, {"notes": list(ATTACKS), "warnings": list(ATTACKS)})
    shown = rows_of(run)
    made = folder / "page.html"
    made.write_text(page(facts, shown.rows, name=" ".join(ATTACKS), told=shown.told), "utf-8")
    return made


@pytest.fixture
def opened(browser, path):
    """The page, and what it said on the console and asked the network for."""
    window = browser.new_page(viewport={"width": 1400, "height": 900}, color_scheme="light")
    said: list[str] = []
    asked: list[str] = []
    window.on("console", lambda message: said.append(message.text))
    window.on("pageerror", lambda error: said.append(str(error)))
    window.on("dialog", lambda dialog: said.append(dialog.message))
    window.on("request", lambda request: asked.append(request.url))
    window.goto(path.as_uri())
    yield window
    is_broken = window.evaluate("window.broken")
    window.close()
    assert said == []
    assert set(asked) == {path.as_uri()}
    assert is_broken is None


def column(window, name) -> list[str]:
    return window.locator(f"#rows td.{name}").all_inner_texts()


def numbers(window, name) -> list[float]:
    return [float(text) for text in column(window, name) if text.strip() != "-"]


@needs_browser
def test_a_heading_sorts_and_sorts_the_other_way_round(opened) -> None:
    assert numbers(opened, "weight") == sorted(numbers(opened, "weight"), reverse=True)

    opened.get_by_role("button", name="weight", exact=True).click()
    assert numbers(opened, "weight") == sorted(numbers(opened, "weight"))
    # rows without a weight are last in either order
    assert [text.strip() for text in column(opened, "weight")[-4:]] == ["-", "-", "-", "-"]

    opened.get_by_role("button", name="base loss").click()
    assert numbers(opened, "base_nll") == sorted(numbers(opened, "base_nll"), reverse=True)
    assert opened.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"


@needs_browser
def test_search_and_choices_leave_the_rows_that_fit(opened) -> None:
    opened.get_by_label("Search").fill("ONERROR")
    assert len(column(opened, "id")) == 1
    assert opened.locator("#count").inner_text() == "1 of 13 rows"

    opened.get_by_label("Search").fill("line one")  # stands in a turn alone
    assert len(column(opened, "id")) == len(ATTACKS)

    opened.get_by_label("Search").fill("")
    opened.locator("#origin").select_option("real")
    assert column(opened, "origin") == ["real"] * 4
    opened.locator("#split").select_option("dev")
    assert column(opened, "split") == ["dev"] * 2


@needs_browser
def test_a_trajectory_opens_with_its_turns_and_the_mask(opened) -> None:
    opened.locator("#rows tbody tr").first.click()

    reader = opened.get_by_role("dialog")
    assert reader.is_visible()
    roles = reader.locator(".turn b").all_inner_texts()
    assert roles == ["system", "user", "assistant", "tool", "assistant"]
    assert reader.locator("li.trained .turn b").all_inner_texts() == ["assistant"] * 2
    assert reader.locator(".mask").all_inner_texts() == ["trained on"] * 2
    assert reader.locator("pre").inner_text() == '{"text":"plain"}'

    opened.get_by_role("button", name="Below").click()
    assert reader.locator("#place").inner_text() == "2 of 13"
    opened.keyboard.press("ArrowLeft")
    assert reader.locator("#place").inner_text() == "1 of 13"
    opened.keyboard.press("Escape")
    assert not reader.is_visible()


@needs_browser
def test_rows_that_are_held_out_show_no_turn_as_trained_on(opened) -> None:
    opened.locator("#split").select_option("dev")
    opened.locator("#rows tbody tr").first.click()

    reader = opened.get_by_role("dialog")
    assert reader.locator("li.trained").count() == 0
    assert "it is in split dev" in reader.locator("#mask").inner_text()


@needs_browser
def test_the_keyboard_alone_opens_a_trajectory(opened) -> None:
    opened.locator("#rows td.line button").nth(2).focus()
    opened.keyboard.press("Enter")

    assert opened.get_by_role("dialog").locator("#place").inner_text() == "3 of 13"


@needs_browser
def test_hostile_text_is_shown_to_the_letter_and_never_acts(opened) -> None:
    reader = opened.get_by_role("dialog")
    shown = []
    for at in range(len(ATTACKS)):
        opened.locator("#rows tbody tr").nth(at).click()
        # system, user, reasoning, assistant, tool
        said = reader.locator(".said").all_text_contents()
        assert said[1] == f"line one\n{said[0]}"
        assert said[2:5] == [said[0]] * 3
        assert reader.locator("#reader-title").text_content().endswith(said[0])
        shown.append(said[0])
        opened.keyboard.press("Escape")

    assert sorted(shown) == sorted(map(written_out, ATTACKS))
    assert opened.locator("img").count() == 0


def written_out(text: str) -> str:
    for character in "\x1b\x07\x00":
        text = text.replace(character, f"\\x{ord(character):02x}")
    for character in "\u202e\u2066\u2028":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@needs_browser
def test_the_page_is_dark_where_the_system_is_and_where_it_is_asked_to_be(opened) -> None:
    def light() -> float:
        colour = opened.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(",")))

    assert light() == 3 * 255
    opened.get_by_role("button", name="Dark").click()
    assert light() < 100
    opened.get_by_role("button", name="Light").click()
    assert light() == 3 * 255

    opened.reload()
    opened.emulate_media(color_scheme="dark")
    assert light() < 100


@needs_browser
@pytest.mark.parametrize("width", [360, 768, 1400])
def test_nothing_scrolls_sideways_at_any_width(opened, width) -> None:
    opened.set_viewport_size({"width": width, "height": 780})
    for details in opened.locator("summary").all():
        details.click()

    def is_wide() -> bool:
        wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        return opened.evaluate(wide)

    assert not is_wide()
    opened.locator("#rows tbody tr").first.click()
    assert not is_wide()
    reader = "document.getElementById('read')"
    assert opened.evaluate(f"{reader}.scrollWidth <= {reader}.clientWidth")


@needs_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_stands_out_from_what_is_behind_it(opened, theme) -> None:
    opened.emulate_media(color_scheme=theme)
    opened.locator("#rows tbody tr").first.click()
    pairs = opened.evaluate(_COLOURS)

    assert len(pairs) > 5
    for what, front, back in pairs:
        assert contrast(front, back) >= 4.5, what


def contrast(one, two) -> float:
    """WCAG 2.2: the ratio of the relative luminances, 4.5 at least for text."""

    def luminance(colour) -> float:
        parts = [part / 255 for part in colour[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


#: For a few kinds of text its colour and the first opaque one behind it.
_COLOURS = """
() => ["h1", ".note", ".told", ".warning", "figcaption", "svg text", "td.line button", ".facts dt",
       ".mask", ".control", ".said", "pre", "button", "summary"].flatMap((kind) => {
  const element = document.querySelector(kind);
  if (!element) return [];
  const parts = (text) => text.match(/[0-9.]+/g).map(Number);
  const style = getComputedStyle(element);
  const front = parts(kind === "svg text" ? style.fill : style.color);
  let behind = element, back = [0, 0, 0, 0];
  while (behind && back[3] === 0) {
    back = parts(getComputedStyle(behind).backgroundColor);
    if (back.length === 3) back.push(1);
    behind = behind.parentElement;
  }
  return [[kind, front, back]];
})
"""
