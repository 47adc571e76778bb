"""The contract for methods: what an author gets checked without writing a test.

    from bench.contract import parametrize_with_checks

    @parametrize_with_checks([METHODS["mine"]])
    def test_the_contract(form, check):
        check(form)

One test for each form and check, such as `mine-classes_permute`. `check_method` runs all of them, and so does
`python -m bench contract mine --plugin mine.py`. docs/methods.md goes through a method from an empty file on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from bench.api import Form, UserError, nearest
from bench.contract.checks import CHECKS, Broken, Check, brief

__all__ = ["CHECKS", "Broken", "Check", "Finding", "brief", "check_method", "checks_of", "findings"]
__all__ += ["parametrize_with_checks"]


@dataclass(frozen=True)
class Finding:
    """What a check found: an empty `error` where the promise is kept."""

    check: Check
    error: str = ""


def checks_of(form: Form) -> list[Check]:
    """Those that mean something for this form; the others are silent about it."""
    try:
        CHECKS["declarations"](form)
    except Broken:  # nothing else can be said of a form that does not say what it is
        return [CHECKS["declarations"]]
    return [check for check in CHECKS.values() if check.applies(form)]


def findings(form: Form) -> Iterator[Finding]:
    """Each check's outcome, one after the other."""
    for check in checks_of(form):
        try:
            check(form)
        except Exception as error:
            what = str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}"
            yield Finding(check, ", ".join([what, *getattr(error, "__notes__", ())]))
        else:
            yield Finding(check)


def check_method(form: Form, expected: Mapping[str, str] | None = None) -> None:
    """Run all checks of a form. Broken with a sentence for each that fails, and for each expected one that does not.

    expected: check -> the reason why it is known to fail.
    """
    known = dict(expected or {})
    _refuse_unknown((form.name, check) for check in known)
    told = []
    for finding in findings(form):
        name = finding.check.name
        if finding.error and name not in known:
            told.append(f"{form.name} breaks {name} ({finding.check.says}): {finding.error}.")
        elif not finding.error and name in known:
            told.append(f"{form.name} keeps {name}, though it is expected not to ({known[name]}): drop that.")
    if told:
        raise Broken("\n".join(told))


def parametrize_with_checks(forms: Iterable[Form], expected: Mapping[tuple[str, str], str] | None = None):
    """Decorator for pytest: test(form, check) once for each form and each check that applies to it.

    expected: (form, check) -> the reason of a known failure, which has to fail (xfail, strict). Raises UserError for a
    name that is no form's or no check's.
    """
    import pytest

    forms, known = list(forms), dict(expected or {})
    _refuse_unknown(known)
    cases = {(form.name, check.name): (form, check) for form in forms for check in checks_of(form)}
    for form, check in known:
        if (form, check) not in cases:
            raise UserError(
                f"{check!r} is expected to fail of {form!r}, which is none of these forms or not checked so."
            )
    return pytest.mark.parametrize(
        ("form", "check"),
        [
            pytest.param(*case, id="-".join(key), marks=_expected_to_fail(pytest, known.get(key)))
            for key, case in cases.items()
        ],
    )


def _expected_to_fail(pytest, reason: str | None) -> tuple:
    return () if reason is None else (pytest.mark.xfail(reason=reason, strict=True),)


def _refuse_unknown(names: Iterable[tuple[str, str]]) -> None:
    for form, check in names:
        if check not in CHECKS:
            raise UserError(f"there is no check {check!r} that {form!r} could break: {nearest(check, CHECKS)}")
