"""What several test files share: one thread, and small real backbones."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis  # noqa: F401  its plug-ins look for who refers to what, and do not find what is frozen below
import pytest
import torch
from mistakes import Case, listing, put, watchers

from bench import cards
from bench.backbone import OpenClip, Transform, embedded, weights_hash
from bench.backbone.untrained import small_vit

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # a shell's background jobs ignore Ctrl-C and would pass that on to the commands under test; a terminal does not
    signal.signal(signal.SIGINT, signal.default_int_handler)


def random_backbone(seed: int = 0) -> OpenClip:
    """The embedded architecture with random weights: a real image tower, text tower and tokenizer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = embedded.model()
    about = embedded.config()["preprocess"]
    transform = Transform(about["size"], tuple(about["mean"]), tuple(about["std"]))
    return OpenClip(model, embedded.tokenizer(), f"random-{seed}", transform, weights_hash(model))


@pytest.fixture(scope="session")
def vits() -> dict[str, OpenClip]:
    """The small transformers in float64 and in float32."""
    return {"exact": small_vit(torch.float64), "real": small_vit()}


@pytest.fixture(scope="session")
def make_backbone() -> Callable[[int], OpenClip]:
    return random_backbone


@pytest.fixture(scope="session")
def tiny() -> OpenClip:
    return random_backbone()


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real images and features, or a skip that says where it was looked for."""
    root = Path(os.environ.get("BENCH_REALDATA", Path(__file__).parent.parent.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real data in {root}; set BENCH_REALDATA")
    return root


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """The URL of a bucket of a real S3 server on loopback."""
    server_of = pytest.importorskip("moto.server", reason="pip install .[dev]")
    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    own = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        import s3fs

        s3fs.S3FileSystem().mkdir("bench-results")
        yield "s3://bench-results"
    finally:
        server.stop()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture
def touched() -> Iterator[list[str]]:
    """Every path that Python opens for writing, makes, moves or removes."""
    found: list[str] = []
    told = watchers()
    told.append(found)
    yield found
    told.remove(found)


@pytest.fixture
def answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], touched: list[str]
) -> Callable[[Case], None]:
    """A mistake is answered in one sentence that holds what the case says, and nothing is left behind."""
    from bench.__main__ import main  # fills the registry, which not every test wants

    def check(one: Case) -> None:
        if one.make is not None:
            one.make(tmp_path)
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        monkeypatch.setenv("COLUMNS", "1000")
        if (tmp_path / "datasets").is_dir():
            monkeypatch.setattr(cards, "home", lambda: tmp_path / "datasets")
        before = listing(tmp_path)
        touched.clear()
        try:
            code = main(put(one.words, tmp_path))
        except SystemExit as stop:  # argparse's own way out
            code = int(stop.code or 0)
        written = [
            path for path in touched if not path.startswith(("/dev/", "/proc/none")) and "__pycache__" not in path
        ]
        printed = capsys.readouterr()
        assert code == one.code, printed
        assert "Traceback" not in printed.out + printed.err
        said = printed.out + printed.err
        if one.code == 2:
            (said,) = [line for line in printed.err.splitlines() if "error: " in line]
            assert said.isprintable()
            assert printed.err.rstrip("\n").endswith(said)
            if said.startswith("error: "):
                assert said.endswith((".", "?"))
        for words in one.says:
            assert words.replace("@", str(tmp_path)) in said
        assert [path for path in written if not path.startswith(str(tmp_path))] == []
        assert listing(tmp_path) == before

    return check


@pytest.fixture
def answered_alone(tmp_path: Path) -> Callable[[Case], None]:
    """In a process of its own a mistake is answered by its sentence, and by nothing else."""

    def check(one: Case) -> None:
        if one.make is not None:
            one.make(tmp_path)
        before = listing(tmp_path)
        command = [sys.executable, "-m", "bench", *put(one.words, tmp_path)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        here = Path(__file__).parent.parent
        done = subprocess.run(command, capture_output=True, text=True, cwd=here, env=environment, timeout=120)
        assert done.returncode == 2
        assert done.stdout == ""
        (said,) = done.stderr.strip().splitlines()
        assert said.startswith("error: ")
        for words in one.says:
            assert words.replace("@", str(tmp_path)) in said
        assert listing(tmp_path) == before

    return check


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Hostile input may well make a reader hang, which need not take as long to be told as elsewhere."""
    for item in items:
        if "answered" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(60))


def pytest_collection_finish() -> None:
    """What the imports have made is not looked through again by every measurement's garbage collection."""
    gc.collect()
    gc.freeze()
