"""What the README promises is there: its commands parse, its names exist, its files too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import methods  # noqa: F401
from bench import cards
from bench.__main__ import parser
from bench.api import METHODS

HERE = Path(__file__).parent.parent
README = (HERE / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"python -m bench (\w[^\n`&#]*)", README)))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_readme_is_understood(command: str) -> None:
    parser().parse_args(command.split())


def test_the_readmes_table_of_methods_names_every_form_once_and_no_other() -> None:
    rows = re.findall(r"^\| (\S+) \| (`.*`\*?) \|", README, re.MULTILINE)
    stated = {family: re.findall(r"`([\w-]+)`(\*?)", forms) for family, forms in rows}
    found: dict[str, list[tuple[str, str]]] = {}
    for form in METHODS.values():
        found.setdefault(form.family, []).append((form.name, "*" if form.extra else ""))
    assert {k: sorted(v) for k, v in stated.items()} == {k: sorted(v) for k, v in found.items()}


@pytest.mark.parametrize("path", sorted(set(re.findall(r"(?:bench|docs|methods|datasets|tests)/[\w./]+\w", README))))
def test_every_file_that_the_readme_names_exists(path: str) -> None:
    if Path(path).stem != "mine":
        assert (HERE / path).exists()


def test_the_reference_table_has_the_rows_that_the_command_prints() -> None:
    table = README.split("<!-- reference table")[1].split("```")[1]
    admitted = cards.suite("ood").admits
    for form in METHODS.values():
        if form.family in ("rada", "tpt") and not form.extra and form.method.setting in admitted:
            assert form.title in table
