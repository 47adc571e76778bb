"""The page of all results, opened in a real browser: what it shows, does, and never does."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generated import CELLS, GRADED, ONE, SHIFT, THREE, TWO, answers, cell, failed, few, graded, made
from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from bench import cards, page, records
from bench.__main__ import main
from bench.report import Leaderboard
from bench.report.model import Entry
from bench.report.text import shown

ROOT = Path(__file__).parent.parent
HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>&amp;$x$ %_ \u2028 方法"

VISIBLE = " ".join(HOSTILE.split())
"""A title is on one line."""


def toy() -> Leaderboard:
    """Two tasks, with a row that failed and one of a hostile name."""
    named = {"title": HOSTILE, "family": HOSTILE, "fields": {"note": HOSTILE}}
    broken = failed("broken", ONE, 1, f"RuntimeError: {HOSTILE}", traceback=f"line 1\n{HOSTILE}")
    cells = [*CELLS, cell("named", ONE, 1, "1111", **named), cell("named", TWO, 1, "0111", **named), broken]
    return made(replace(SHIFT, title=f"Toy {HOSTILE}"), cells, ["zero-shot", "probe"])


def awkward() -> Iterator[Leaderboard]:
    """One seed, one image; nothing but failures; confidences and times that are no numbers; too many rows to pair."""
    spoiled = [
        replace(one, confidence=np.full(4, math.nan), cost=replace(one.cost, predict_ms=math.nan)) for one in CELLS
    ]
    lone = [cell("zero-shot", task, 1, "1") for task in (ONE, TWO)]
    for name, cells in {"lone": lone, "hollow": [failed("probe", ONE, 1)], "spoiled": spoiled}.items():
        yield made(replace(SHIFT, name=name), cells)
    board = made(replace(SHIFT, name="sweep"), CELLS)
    yield replace(board, blocks=tuple(replace(block, pairs=()) for block in board.blocks))


BOARDS = [graded(**THREE), few(zero_shot=[[10, 12]] * 3, probe=[[4, 6], [10, 12], [18, 20]]), toy(), *awkward()]
BIG = BOARDS[0]


# -- the file ---------------------------------------------------------------------------------------------------------


def test_the_page_is_one_file_whose_policy_admits_its_own_style_and_script_and_no_request() -> None:
    text = page.html(BOARDS)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules["default-src"] == "'none'"
    for rule, tag in (("style-src", "style"), ("script-src", "script")):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert rules[rule] == f"'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'"
    assert set(re.findall(r"https?://[^\"'\s]+", text)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert not re.search(r"<(link|img|iframe|script)[^>]+(src|href)=(?!\"data:)", text.split('id="data"')[0])


def test_hostile_names_can_neither_end_the_data_nor_the_page() -> None:
    text = page.html(BOARDS)
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert not re.search("[<>&]", data)
    rows = json.loads(data)["suites"][2]["rows"]
    assert VISIBLE in [row["title"] for row in rows]
    assert HOSTILE in [row["facts"]["family"] for row in rows]


def test_numbers_that_json_does_not_know_are_left_out() -> None:
    spoiled = [replace(one, cost=replace(one.cost, adapt_ms=float("inf"))) for one in CELLS]
    (data,) = re.findall(r'id="data">(.*?)</script>', page.html([made(SHIFT, spoiled)]), re.DOTALL)
    assert "Infinity" not in data
    assert '"adapt_ms":"inf"' in data


PROGRAM = """
import hashlib, sys; sys.path.insert(0, "tests")
from generated import THREE, graded
from bench import page
print(hashlib.sha256(page.html([graded(**THREE)]).encode()).hexdigest())
"""


def test_the_same_cells_give_the_same_bytes_in_another_process() -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == hashlib.sha256(page.html([BIG]).encode()).hexdigest()


def test_the_command_writes_the_page_of_all_suites_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for suite in ("smoke", "few-shot"):
        for task in cards.tasks(cards.suite(suite)):
            for name in ("zero-shot", "probe"):
                records.save(cell(name, task, 1, [1] * 30 + [0] * 10), tmp_path)
    assert main(["report", "--format", "html", "--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split() == ["wrote", f"{tmp_path}/index.html"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells", "index.html"]
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert '"name":"smoke"' in text
    assert '"name":"few-shot"' in text


# -- the browser ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        lacking = " and ".join(name for name, at in (("chromium", binary), ("chromedriver", driver)) if at is None)
        pytest.skip(f"no {lacking} on the PATH, so no page is opened: install Debian's chromium and chromium-driver")
    options = ChromeOptions()
    options.binary_location = binary
    options.add_argument("--headless=new")
    options.add_argument("--disable-gpu")
    options.add_argument("--disable-dev-shm-usage")
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # the sandbox refuses to run as root
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = Chrome(options, Service(driver))
    try:
        yield chrome
    finally:
        chrome.quit()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page.write(BOARDS, tmp_path_factory.mktemp("page")).as_uri()


SETTLED = "return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
"""Two frames later: what scrolling or another width brings about has happened."""


class Page:
    """What a reader of the page can do."""

    def __init__(self, chrome: Chrome, address: str) -> None:
        self.chrome, self.address = chrome, address

    def open(self, suite: str = "graded", width: int = 1280, height: int = 900, dark: bool = False) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        self.chrome.get("about:blank")
        self.chrome.get(f"{self.address}#{suite}")

    def all(self, selector: str) -> list[WebElement]:
        return self.chrome.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.chrome.find_element(By.CSS_SELECTOR, selector)

    def button(self, text: str, inside: str = "") -> WebElement:
        return next(one for one in self.all(f"{inside} button") if one.text.strip() == text)

    def hover(self, element: WebElement) -> list[str]:
        """The lines of the hint."""
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        ActionChains(self.chrome).move_to_element(element).perform()
        return [line.text for line in self.all("#tip:not([hidden]) div")]

    def press(self, *keys: str) -> None:
        for key in keys:
            ActionChains(self.chrome).send_keys(key).perform()

    def run(self, script: str, *values: Any) -> Any:
        return self.chrome.execute_script(script, *values)

    def focused(self) -> WebElement:
        return self.chrome.switch_to.active_element

    def rows(self) -> list[str]:
        """The titles of the leaderboard's rows that can be seen, from above."""
        heads = self.all("section:first-child .board tbody tr:not([hidden]) th")
        return [head.text for head in heads]

    def column(self, title: str) -> int:
        block = BIG.headline
        return [column.title for column in block.columns if column.shown].index(title)

    def entry(self, row: str, column: str) -> WebElement:
        (line,) = [line for line in self.all(".board tbody tr") if line.find_element(By.TAG_NAME, "th").text == row]
        return line.find_elements(By.CSS_SELECTOR, "td button")[self.column(column)]

    def header(self, title: str) -> WebElement:
        return self.all(".board thead tr:last-child th")[1 + self.column(title)]

    def wide(self) -> int:
        return self.run("return document.documentElement.scrollWidth")


@pytest.fixture
def reader(browser: Chrome, address: str) -> Iterator[Page]:
    """The page, opened anew; afterwards the console is empty and nothing but the file was asked for."""
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    found = Page(browser, address)
    found.open()
    yield found
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {
        event["params"]["request"]["url"].split("#")[0]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert asked <= {address, "about:blank", "data:,"}
    assert address in asked  # the log is one of requests


def told(entry: Entry, unit: str) -> list[str]:
    """What a hint says of an interval and of p, from the leaderboard."""

    def p(value: float) -> str:
        return "< 0.001" if value < 0.001 else f"= {value:.3f}"

    lines = []
    if entry.low is not None and entry.high is not None:
        low, high = (f"{100 * end:.1f}".replace("-0.0", "0.0") for end in (entry.low, entry.high))
        lines.append(f"95 % interval: {low} to {high} {unit}")
    if entry.corrected is not None:
        lines.append(f"p {p(entry.corrected)} with Holm's correction")
    if entry.p is not None:
        lines.append(f"p {p(entry.p)}" + (" without it" if entry.corrected is not None else ""))
    return lines


def entry_of(row: int, title: str) -> Entry:
    return BIG.headline.entries[row][[column.title for column in BIG.headline.columns].index(title)]


# -- the leaderboard --------------------------------------------------------------------------------------------------


def test_the_leaderboard_shows_every_number_as_the_other_formats_do(reader: Page) -> None:
    block = BIG.headline
    places = [j for j, column in enumerate(block.columns) if column.shown]
    for line, entries in zip(reader.all(".board tbody tr"), block.entries, strict=True):
        found = [button.text for button in line.find_elements(By.CSS_SELECTOR, "td button")]
        marks = ["".join(f" {','.join(map(str, entries[j].notes))}" if entries[j].notes else "") for j in places]
        expected = [shown(entries[j], block.columns[j]) + mark for j, mark in zip(places, marks, strict=True)]
        assert [text.replace("\u00a0", "").strip() for text in found] == [text.strip() for text in expected]
    assert reader.one("h2").text == "Graded shifts"


def test_a_column_sorts_by_its_better_end_then_the_other_then_as_it_was(reader: Page) -> None:
    before = ["Zero-shot CLIP", "Probe", "views"]
    assert reader.rows() == before
    for state, order in (
        ("descending", ["views", "Probe", "Zero-shot CLIP"]),
        ("ascending", ["Zero-shot CLIP", "Probe", "views"]),
        ("none", before),
    ):
        reader.header("mean").find_element(By.TAG_NAME, "button").click()
        assert reader.header("mean").get_attribute("aria-sort") == state
        assert reader.rows() == order
    reader.header("ECE").find_element(By.TAG_NAME, "button").click()
    eces = [entry_of(row, "ECE").value or 0.0 for row in range(3)]
    assert reader.rows() == [before[i] for i in sorted(range(3), key=lambda i: eces[i])]
    assert [one.get_attribute("aria-sort") for one in reader.all("[aria-sort]")].count("none") == len(
        reader.all("[aria-sort]")
    ) - 1


def test_holes_sort_last_whichever_way(reader: Page) -> None:
    reader.open("toy")
    header = reader.all(".board thead tr:last-child th")[1]
    for _ in range(2):
        header.find_element(By.TAG_NAME, "button").click()
        assert reader.rows()[-1].startswith("broken")


def test_rows_are_filtered_by_words_and_by_kind(reader: Page) -> None:
    search = reader.one("input[type=search]")
    search.send_keys("PROBE few-shot")
    assert reader.rows() == ["Probe"]
    assert reader.one("output").text == "1 of 3 rows"
    search.clear()
    search.send_keys("nothing like this")
    assert reader.rows() == []
    search.clear()
    search.send_keys(" ")
    assert len(reader.rows()) == 3
    for label in reader.all("fieldset label"):
        if label.text == "test-time":
            label.click()
    assert reader.rows() == ["Zero-shot CLIP", "Probe"]


def test_groups_of_columns_are_switched_off_and_on(reader: Page) -> None:
    def seen() -> set[str]:
        cells = reader.all(".board tbody tr:first-child td")
        return {part for cell in cells if cell.is_displayed() and (part := cell.get_attribute("data-part"))}

    assert seen() == {"tasks", "summary", "cost"}
    reader.button("Cost", ".tools").click()
    assert seen() == {"tasks", "summary"}
    assert reader.button("Cost", ".tools").get_attribute("aria-pressed") == "false"
    reader.button("Cost", ".tools").click()
    assert seen() == {"tasks", "summary", "cost"}


def test_hovering_a_number_shows_its_interval_and_p(reader: Page) -> None:
    views = entry_of(2, "mean")
    lines = reader.hover(reader.entry("views", "mean"))
    half = 50 * ((views.high or 0) - (views.low or 0))
    assert lines[0] == f"views, mean: {100 * (views.value or 0):.1f} ± {half:.1f}"
    assert lines[1 : 1 + len(told(views, "%"))] == told(views, "%")
    difference = entry_of(2, "vs zero-shot")
    assert difference.corrected is not None
    lines = reader.hover(reader.entry("views", "vs zero-shot"))
    assert lines[1:] == told(difference, "points")
    assert lines[1].startswith("95 % interval: ")
    assert "with Holm's correction" in lines[2]
    reader.press(Keys.ESCAPE)
    assert reader.all("#tip:not([hidden])") == []


def test_a_number_opens_the_cells_behind_it_with_cost_and_provenance(reader: Page) -> None:
    reader.entry("Probe", "world-sketch:2").click()
    dialog = reader.one("dialog[open]")
    assert dialog.find_element(By.TAG_NAME, "h2").text == "Probe: world-sketch:2"
    summaries = dialog.find_elements(By.CSS_SELECTOR, ".cell summary")
    assert [one.text for one in summaries] == ["world-sketch:2 @4 from world-photo, seed 1: 40.0 %"]
    summaries[0].click()
    reader.run(SETTLED)
    stored = answers("probe", cards.tasks(GRADED)[2], 8)
    facts = dict(
        zip(
            [one.text for one in dialog.find_elements(By.CSS_SELECTOR, ".cell dt")],
            [one.text for one in dialog.find_elements(By.CSS_SELECTOR, ".cell dd")],
            strict=True,
        )
    )
    assert facts["cell"] == stored.id
    assert facts["accuracy"] == "40.00 %"
    assert facts["pictures"] == "20"
    assert facts["fit, s"] == "2.5"
    assert facts["memory of the fit, MiB"] == "64.5"
    assert facts["processor"] == "Abacus"
    assert facts["finished"] == "2026-11-24T05:00:00+00:00"
    reader.button("Close", "dialog").click()
    assert reader.all("dialog[open]") == []


def test_a_row_opens_all_of_its_cells_and_its_hyper_parameters(reader: Page) -> None:
    reader.button("Probe", ".board tbody").click()
    dialog = reader.one("dialog[open]")
    assert "Stored cells (7)" in dialog.text
    assert "lr = 0.1" in dialog.text
    assert "code of probe" in dialog.text


def test_a_cell_that_failed_shows_its_error_and_traceback(reader: Page) -> None:
    reader.open("toy")
    failures = [one for one in reader.all(".board td.failed button") if one.is_displayed()]
    assert [one.text.split()[0] for one in failures] == ["failed"]
    failures[0].click()
    reader.one("dialog .cell.failed summary").click()
    reader.run(SETTLED)
    assert reader.one("dialog pre").text.startswith("line 1")
    assert "RuntimeError: </script>" in reader.one("dialog .cell p").text


def test_hostile_names_are_shown_as_text_and_never_run(reader: Page) -> None:
    reader.open("toy")
    assert reader.one("h2").text == f"Toy {VISIBLE}"
    assert VISIBLE in reader.rows()
    reader.hover(reader.button(VISIBLE, ".board tbody th"))
    for row in reader.all(".board tbody th button"):
        row.click()
        reader.button("Close", "dialog").click()
    for point in reader.all("#chart-cost [data-tip]"):
        reader.hover(point)
    assert reader.run("return window.hacked") is None
    assert reader.all("img") == []
    assert len(reader.all("script")) == 2


# -- all pairs --------------------------------------------------------------------------------------------------------


def test_the_matrix_has_every_pair_with_its_sign_and_is_bold_where_the_corrected_p_says_so(reader: Page) -> None:
    lines = reader.all(".pairs tbody tr")
    for i, line in enumerate(lines):
        for k, box in enumerate(line.find_elements(By.TAG_NAME, "td")):
            if i == k:
                assert box.text == ""
                continue
            entry = BIG.headline.pairs[i][k]
            text = f"{100 * (entry.value or 0):+.1f}"
            assert box.text == (text if float(text) else "0.0")
            bold = "sure" in (box.get_attribute("class") or "").split()
            assert bold == (entry.corrected is not None and entry.corrected <= 0.05)
    assert len(lines) == 3
    assert reader.all(".pairs td.sure")
    button = lines[2].find_elements(By.TAG_NAME, "button")[0]
    first = reader.hover(button)
    assert first[0] == f"views minus Zero-shot CLIP: {button.text} points"
    assert first[1:] == told(BIG.headline.pairs[2][0], "points")


# -- figures ----------------------------------------------------------------------------------------------------------


def test_every_chart_is_drawn_or_says_why_not_in_each_suite(reader: Page) -> None:
    for board in BOARDS:
        reader.open(board.name)
        there = {figure.get_attribute("id") for figure in reader.all("figure")}
        assert there == {f"chart-{chart.name}" for chart in board.charts if not chart.absent}
        text = reader.one("section[aria-label=Figures]").text
        for chart in board.charts:
            if chart.absent:
                assert f"{chart.title}, not shown: {chart.absent}." in text
            else:
                assert reader.all(f"#chart-{chart.name} svg [data-tip]")


def test_points_of_a_figure_say_their_row_number_and_interval(reader: Page) -> None:
    mean = entry_of(2, "mean")
    lines = reader.hover(reader.one("#chart-cost [data-row='2'][data-tip]"))
    assert lines[0] == "views"
    assert lines[1] == f"{100 * (mean.value or 0):.1f} %"
    assert lines[2] == told(mean, "%")[0]
    assert any("Pareto front" in line for line in lines)
    (panel,) = [chart.panels[1] for chart in BIG.charts if chart.name == "differences"]
    found = reader.all("#chart-differences svg [data-row='2'][data-tip]")
    assert len(found) == len(panel.points)
    lines = reader.hover(found[0])
    assert lines[1] == "world-sketch:1: +50.0 points"
    assert lines[-1] == f"p = {panel.points[0].y.corrected:.3f} with Holm's correction"


def test_a_name_switches_its_row_off_and_on_in_every_figure(reader: Page) -> None:
    def drawn() -> set[str]:
        return {str(one.get_attribute("data-row")) for one in reader.all(".charts svg [data-tip]")}

    assert drawn() == {"0", "1", "2"}
    name = reader.one(".legend [data-legend='1']")
    name.click()
    assert drawn() == {"0", "2"}
    assert name.get_attribute("aria-pressed") == "false"
    reader.button("None", ".legend").click()
    assert drawn() == set()
    assert "Every row of this figure is switched off." in reader.one(".charts").text
    reader.button("All", ".legend").click()
    assert drawn() == {"0", "1", "2"}


def test_pointing_at_a_row_dims_the_others(reader: Page) -> None:
    reader.hover(reader.one(".legend [data-legend='2']"))
    assert "lit" in (reader.one(".charts").get_attribute("class") or "")
    assert {one.get_attribute("data-row") for one in reader.all(".charts .on")} == {"2"}


def test_the_numbers_of_a_figure_can_be_read_as_a_table(reader: Page) -> None:
    chart = next(chart for chart in BIG.charts if chart.name == "severity")
    summary = reader.one("#chart-severity details summary")
    reader.run("arguments[0].scrollIntoView({block: 'center'})", summary)
    summary.click()
    reader.run(SETTLED)
    assert len(reader.all("#chart-severity details tbody tr")) == sum(len(panel.points) for panel in chart.panels)


# -- keyboard, phone, colours -----------------------------------------------------------------------------------------


def test_by_keyboard_alone_a_table_is_sorted_and_a_cell_opened_and_left(reader: Page) -> None:
    reader.press(Keys.TAB)
    assert reader.focused().text == "Skip to the leaderboard"
    reader.press(Keys.ENTER)
    for _ in range(15):
        reader.press(Keys.TAB)
        if reader.run("return Boolean(document.activeElement.closest('.board'))"):
            break
    assert reader.focused().text == "Method"
    reader.press(*[Keys.ARROW_RIGHT] * (1 + reader.column("mean")))
    assert reader.focused().text == "mean"
    assert reader.focused() == reader.header("mean").find_element(By.TAG_NAME, "button")
    reader.press(Keys.ENTER)
    assert reader.rows()[0] == "views"
    reader.press(Keys.ARROW_DOWN)
    number = reader.focused()
    assert number == reader.entry("views", "mean")
    assert reader.all("#tip:not([hidden]) div")[0].text.startswith("views, mean: ")
    assert number.get_attribute("aria-describedby") == "tip"
    reader.press(Keys.ENTER)
    assert reader.one("dialog[open] h2").text.startswith("views: ")
    reader.press(Keys.ESCAPE)
    assert reader.all("dialog[open]") == []
    assert reader.focused() == number
    reader.press(Keys.HOME)
    assert reader.focused().text == "views"
    reader.press(Keys.TAB)  # a table is one stop
    assert not reader.run("return Boolean(document.activeElement.closest('.board'))")


def test_by_keyboard_alone_the_points_of_a_figure_are_read(reader: Page) -> None:
    def hint() -> list[str]:
        return [line.text for line in reader.all("#tip:not([hidden]) div")]

    reader.run("document.querySelector('.legend button:last-child').focus()")
    reader.press(Keys.TAB)
    reader.run(SETTLED)  # the page has scrolled there
    assert hint()[0] == "Zero-shot CLIP"
    reader.press(Keys.ARROW_RIGHT)
    second = hint()
    assert second[0] == "Probe"
    assert reader.run("return document.activeElement.getAttribute('aria-label')") == ". ".join(second)
    reader.press(Keys.TAB)  # a figure is one stop, then the table of its numbers
    assert reader.focused().tag_name == "summary"
    ActionChains(reader.chrome).key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT).perform()
    assert hint() == second


@pytest.mark.parametrize("suite", ["graded", "few", "toy", "hollow"])
def test_on_a_phone_the_page_never_scrolls_sideways(reader: Page, suite: str) -> None:
    reader.open(suite, width=360, height=740)
    assert reader.wide() <= 360
    assert reader.run("return document.body.scrollWidth") <= 360
    table = reader.one(".board")
    assert table.size["width"] > 360  # the table does, inside its frame
    svgs = [svg.size["width"] for svg in reader.all(".charts svg")]
    assert max(svgs, default=0) <= 360
    assert bool(svgs) == (suite != "hollow")
    reader.one(".board tbody td button").click()
    assert reader.wide() <= 360
    assert reader.one("dialog[open]").size["width"] <= 360


def test_figures_are_drawn_anew_when_the_window_becomes_narrow(reader: Page) -> None:
    before = reader.one("#chart-cost svg").size["width"]
    size = {"width": 600, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    reader.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    reader.run(SETTLED)
    assert reader.one("#chart-cost svg").size["width"] < 600 < before
    assert reader.wide() <= 600


def luminance(colour: str) -> float:
    channels = [int(x) / 255 for x in re.findall(r"\d+", colour)[:3]]
    parts = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in channels]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize("dark", [False, True])
def test_colours_follow_the_system_and_the_button_and_can_be_read(reader: Page, dark: bool) -> None:
    reader.open(dark=dark)

    def contrast(selector: str) -> float:
        style = "const s = getComputedStyle(arguments[0]); return s.getPropertyValue('color')"
        ink = luminance(reader.run(style, reader.one(selector)))
        paper = luminance(reader.run("return getComputedStyle(document.body).backgroundColor"))
        return (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05)

    def is_dark() -> bool:
        return luminance(reader.run("return getComputedStyle(document.body).backgroundColor")) < 0.2

    for expected in (dark, not dark, dark):
        assert is_dark() == expected
        assert contrast("h2") > 7
        assert contrast(".hint") > 4.5
        reader.one("#theme").click()


# -- suites -----------------------------------------------------------------------------------------------------------


def test_suites_are_chosen_by_name_and_by_address(reader: Page) -> None:
    assert [one.text for one in reader.all("#suites button")] == [board.name for board in BOARDS]
    reader.button("few", "#suites").click()
    assert reader.one("h2").text == "Few"
    assert reader.one("#suites [aria-current]").text == "few"
    assert reader.run("return location.hash") == "#few"
    reader.chrome.back()
    assert reader.one("h2").text == "Graded shifts"
    reader.open("unknown%")
    assert reader.one("h2").text == "Graded shifts"
