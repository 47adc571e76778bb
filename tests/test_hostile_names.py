"""A results folder of hostile names goes through every format: LaTeX compiles, the page runs nothing."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from generated import cell, failed
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from bench import cards, records
from bench.__main__ import main

HOSTILE = {
    "latex": r"\input{/etc/passwd} \write18{touch ran} $x_1^2$ #1 & 100% ~ ^ _ {a} \\ \end{document} %",
    "mathtext": r"$\frac{1}{$ $$ \alpha $x",
    "html": "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=2><b>\"'&amp;",
    "markdown": "[x](javascript:alert(1)) | `code` *bold* | <!-- \n\n# heading",
    "csv": '=HYPERLINK("http://x"),"a\nb"\r\n;',
    "right to left": "\u202egnp.exe\u202c שלום مرحبا",
    "emoji": "👩\u200d🔬 😀 方法 \U0010ffff",
    "control": "\x1b[31m\x00\x07\x85\u2028\u2029\ufeff\t\x7f",
    "empty": "",
    "blank": " \n ",
    "huge": "a" * 10_000,
    "broad": "word " * 2_000,
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks of smoke and four of few-shot, answered by a method of each of those names, with all else named so."""
    root, number = tmp_path_factory.mktemp("hostile") / "results", 0
    for suite in ("smoke", "few-shot"):
        tasks = [task for task in cards.tasks(cards.suite(suite)) if task.shots in (1, 4)]
        for task in tasks:
            for i, (kind, text) in enumerate([("plain", "zero-shot"), *HOSTILE.items()]):
                about = {
                    "title": text,
                    "family": text,
                    "fields": {"note": text, text: 1},
                    "notes": (f"a note: {text}",),
                    "provenance": {
                        "finished": text,
                        "processor": HOSTILE["mathtext"],
                        "threads": 1,
                        "device": text,
                        text: text,
                    },
                    "cost": replace(cell("probe", task, 1, "1").cost, fit_s=float(i), memory_how=text),
                }
                method = "zero-shot" if kind == "plain" else text
                backbone = text if kind in ("html", "latex") and suite == "few-shot" else "tiny"
                right = [1] * (20 + i) + [0] * (20 - i)
                answer = cell(method, task, 1, right, classes=("x", text, "</script>"), backbone=backbone, **about)
                number += 1
                records.save(replace(answer, id=f"{number:016x}", method=method), root)
        number += 1
        error = f"ValueError: {HOSTILE['html']} {HOSTILE['latex']}"
        lost = failed("lost", tasks[0], 1, error, traceback=error, title=HOSTILE["control"])
        records.save(replace(lost, id=f"{number:016x}"), root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "150")
        words = ["--suite", "smoke,few-shot", "--format", "terminal,md,csv,tex,figures,html"]
        assert main(["report", *words, "--results", str(root)]) == 0
    return root


def test_every_format_is_written_and_nothing_else(results: Path) -> None:
    assert sorted(path.name for path in results.parent.iterdir()) == ["results"]
    assert sorted(path.name for path in results.iterdir()) == ["cells", "figures", "index.html", "tables"]
    for kind in ("md", "csv", "tex"):
        written = {path.name for path in (results / "tables").glob(f"*.{kind}")}
        assert {f"smoke.{kind}", f"few-shot-backbones.{kind}", f"few-shot-tiny.{kind}"} <= written
        assert len(written) == 5  # smoke, and few-shot across and on each of three backbones
    figures = sorted(path.name for path in (results / "figures").iterdir())
    assert {f"smoke-{name}.pdf" for name in ("cost", "size", "reliability")} <= set(figures)
    assert "few-shot-tiny-shots.pdf" in figures
    assert all((results / "figures" / name).stat().st_size > 1000 for name in figures)


def test_names_come_back_from_the_csv(results: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((results / "tables" / "smoke.csv").read_text(encoding="utf-8"))))
    titles = {row["title"] for row in rows}
    assert HOSTILE["latex"] in titles
    assert any(title.startswith("</script>") for title in titles)


def test_no_control_character_reaches_a_table(results: Path) -> None:
    for path in (results / "tables").glob("*.md"):
        text = path.read_text(encoding="utf-8")
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "\0" not in text


def latex_is_there() -> bool:
    if not shutil.which("pdflatex") or not shutil.which("kpsewhich"):
        return False
    return subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True).returncode == 0


@pytest.mark.skipif(not latex_is_there(), reason="pdflatex or its package booktabs is not installed")
@pytest.mark.parametrize("suite", ["smoke", "few-shot"])
def test_latex_compiles_and_runs_nothing_of_a_name(results: Path, suite: str, tmp_path: Path) -> None:
    for path in (results / "tables").glob(f"{suite}*.tex"):
        shutil.copy(path, tmp_path / "table.tex")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-shell-escape", "table.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True)
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
        assert (tmp_path / "table.pdf").stat().st_size > 1000
        assert not (tmp_path / "ran").exists()
        assert b"/etc/passwd)" not in done.stdout  # a file that TeX reads is named so


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no chromium or no chromedriver on the PATH: install Debian's chromium and chromium-driver")
    options = ChromeOptions()
    options.binary_location = binary
    for word in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # the sandbox refuses to run as root
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = Chrome(options, Service(driver))
    try:
        yield chrome
    finally:
        chrome.quit()


def test_the_page_shows_the_names_runs_nothing_and_asks_for_nothing(results: Path, browser: Chrome) -> None:
    address = (results / "index.html").as_uri()
    for suite in ("smoke", "few-shot"):
        browser.get("about:blank")
        browser.get(f"{address}#{suite}")
        rows = browser.find_elements(By.CSS_SELECTOR, ".board tbody th button")
        assert len(rows) >= len(HOSTILE)
        for row in rows:
            browser.execute_script("arguments[0].click()", row)
            for summary in browser.find_elements(By.CSS_SELECTOR, "dialog .cell summary"):
                browser.execute_script("arguments[0].click()", summary)
            browser.execute_script("document.querySelector('dialog').close()")
        assert browser.execute_script("return window.hacked") is None
        assert browser.find_elements(By.TAG_NAME, "img") == []
        assert len(browser.find_elements(By.TAG_NAME, "script")) == 2
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {e["params"]["request"]["url"].split("#")[0] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert asked <= {address, "about:blank", "data:,"}
    assert address in asked
