"""What a wheel must hold: every package of the house, and the files that are not code."""

from __future__ import annotations

import tomllib
from pathlib import Path

HERE = Path(__file__).parent.parent
SETUP = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def test_every_package_of_the_checkout_is_in_the_wheel() -> None:
    found = {
        ".".join(file.parent.relative_to(HERE).parts)
        for top in ("bench", "methods")
        for file in (HERE / top).rglob("__init__.py")
    }
    assert found | {"bench.datasets", "bench.datasets.suites", "bench.results"} == set(SETUP["packages"])


def test_every_file_beside_the_code_is_in_the_wheel() -> None:
    patterns = SETUP["package-data"]
    for file in (HERE / "bench").rglob("*"):
        if file.is_file() and file.suffix not in (".py", ".pyc"):
            inside = [
                package
                for package, names in patterns.items()
                for name in names
                if file in (HERE / package.replace(".", "/")).glob(name)
            ]
            assert inside, f"{file.relative_to(HERE)} is in no entry of package-data"
