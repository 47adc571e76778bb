"""Methods from outside: of installed packages by their entry points, and of single files by `--plugin`.

    [project.entry-points."vlm_bench.methods"]
    mine = "mypackage.methods"

names a module whose import registers forms (`bench.api.register`); a file does so when it is run. What fails there
leaves out that plug-in, whole, and nothing else: every other method goes on, and a sentence says what happened.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from importlib import metadata
from pathlib import Path

from bench.api import METHODS, SETTINGS, Form, Method, UserError

GROUP = "vlm_bench.methods"
ASKED = (*Method.__annotations__, "fit", "predictor", "parameters")
"""What the harness reads of every method before it runs one."""


@dataclass(frozen=True)
class Plugin:
    """What became of a plug-in: its forms, or the reason why it is left out and the names that it would have brought.

    by_name: whether the user named its file, so that a name which it cannot have is no longer somebody else's.
    """

    name: str
    forms: Mapping[str, Form] = field(default_factory=dict)
    failure: str = ""
    names: frozenset[str] = frozenset()
    by_name: bool = False

    @property
    def warning(self) -> str:
        return f"plug-in {self.name} is left out: {self.failure}."


@contextlib.contextmanager
def plugged(files: Sequence[Path]) -> Iterator[list[Plugin]]:
    """The registry with the forms of every plug-in, as long as the block lasts -> those that are left out.

    Forms state where they come from: the package and its version, or the file and the hash of its bytes. UserError for
    a file that is none.
    """
    before = dict(METHODS)
    try:
        found = [_of_package(point) for point in sorted(metadata.entry_points(group=GROUP), key=lambda p: p.value)]
        found += [_of_file(path) for path in {path.resolve(): path for path in files}.values()]
        yield [plugin for plugin in found if plugin.failure]
    finally:
        METHODS.clear()
        METHODS.update(before)


def refuse_left_out(name: str, known: bool, left_out: Sequence[Plugin]) -> None:
    """UserError with the reason where a method is asked for that a left-out plug-in was to bring."""
    for plugin in left_out:
        if name in plugin.names and (plugin.by_name or not known):
            raise UserError(f"method {name!r} is of the plug-in {plugin.name}, which is left out: {plugin.failure}.")


_IMPORTED: dict[str, Plugin] = {}  # a module registers its forms once a process, however often they are asked for


def _of_package(point: metadata.EntryPoint) -> Plugin:
    if point.value in _IMPORTED:
        METHODS.update(_IMPORTED[point.value].forms)
        return _IMPORTED[point.value]
    dist = point.dist
    name = f"{dist.name} {dist.version}" if dist is not None else point.value
    spec, file = None, None
    with contextlib.suppress(Exception):  # finding a module imports the packages around it; `_load` says what is wrong
        spec = importlib.util.find_spec(point.module)
    if spec is not None and spec.origin:
        file = Path(spec.origin)
    plugin = _load(f"{name} ({point.value})", name, point.module, file, point.load)
    _IMPORTED[point.value] = plugin
    return plugin


def _of_file(path: Path) -> Plugin:
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"--plugin {path} is no Python file: name the file that registers your method.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"--plugin {path} cannot be read ({error.strerror}).") from error
    digest = hashlib.sha256(data).hexdigest()
    module = f"vlm_bench_plugin_{re.sub(r'[^0-9A-Za-z]', '_', path.stem)}_{digest[:8]}"

    def run() -> None:
        spec = importlib.util.spec_from_file_location(module, path.resolve())
        assert spec is not None
        sys.modules[module] = importlib.util.module_from_spec(spec)
        # the very bytes that were hashed; a cached compilation may be older
        exec(compile(data, str(path.resolve()), "exec"), vars(sys.modules[module]))

    plugin = _load(path.name, f"{path.name} sha256 {digest}", module, path.resolve(), run)
    return replace(plugin, by_name=True)


def _load(name: str, origin: str, module: str, file: Path | None, run: Callable[[], object]) -> Plugin:
    """Run what registers the forms; the registry gains all of them or none."""
    before = dict(METHODS)
    forms: dict[str, Form] = {}
    try:
        with contextlib.redirect_stdout(sys.stderr):  # ours may be read by programs
            run()
        inside = re.compile(rf"{re.escape(module)}(\.|$)")  # registered by an import that came before us
        early = {n for n, f in before.items() if inside.match(type(f.method).__module__)}
        forms = {n: f for n, f in METHODS.items() if n not in before or n in early}
        failure = "it registers no method; decorate a class with @register" if not forms else _incomplete(forms)
    except (Exception, SystemExit) as error:
        failure = _told(error, file)
    METHODS.clear()
    METHODS.update(before)
    if failure:
        return Plugin(name, failure=failure, names=frozenset({*forms, *_stated(file)}))
    forms = {n: replace(form, origin=origin) for n, form in forms.items()}
    METHODS.update(forms)
    return Plugin(name, forms)


def _incomplete(forms: Mapping[str, Form]) -> str:
    """What the first form lacks that the harness reads before it runs a method; the contract says the rest."""
    for name, form in forms.items():
        if missing := [asked for asked in ASKED if not hasattr(form.method, asked)]:
            return f"its method {name!r} does not declare {', '.join(missing)}"
        if not is_dataclass(form.method):
            return f"its method {name!r} is no dataclass"
        if form.method.setting not in SETTINGS:
            return (
                f"its method {name!r} has the setting {form.method.setting!r}, which is none of {', '.join(SETTINGS)}"
            )
    return ""


def _told(error: BaseException, file: Path | None) -> str:
    """The line of the plug-in, and the exception with the first line of what it says."""
    if isinstance(error, SyntaxError) and error.lineno:
        where = f"line {error.lineno} of {Path(error.filename or '').name}: "
    else:
        # in a package, a file beside the module may be the one at fault
        frames = [] if file is None else traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if file and Path(f.filename) in (file, file.parent / Path(f.filename).name)]
        where = f"line {own[-1].lineno} of {Path(own[-1].filename).name}: " if own else ""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    said = text.strip().splitlines()[0][:200].rstrip(".") if text.strip() else "without a word"
    return f"{where}{type(error).__name__}: {said}"


def _stated(file: Path | None) -> set[str]:
    """The names that the file's text registers, which need not compile."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace") if file else ""
    except OSError:
        return set()
    return set(re.findall(r"""(?:@register\(\s*|\bfamily\s*=\s*)["']([^"']+)["']""", text))
