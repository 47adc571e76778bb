"""Where a number comes from: hashes of the code that made it, and the machine and packages it was made with."""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    *("torch", "torchvision", "open_clip_torch", "timm", "transformers", "tokenizers"),
    *("safetensors", "huggingface_hub", "pillow", "numpy", "scipy"),
)
VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_CBWR", "ATEN_CPU_CAPABILITY"),
    *("CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "CUDA_VISIBLE_DEVICES", "PYTHONHASHSEED"),
)
"""All that is recorded of the environment, for the rest of it is nobody's business: what can change a rounding."""


def code_hash(paths: Iterable[Path]) -> str:
    """Hash of what these files do: comments, docstrings and layout do not count, names and values do."""
    digest = hashlib.sha256()
    for path in sorted(paths, key=lambda p: p.name):
        digest.update(path.name.encode() + b"\0" + _meaning(path, path.stat().st_mtime_ns).encode() + b"\0")
    return digest.hexdigest()[:16]


@functools.lru_cache(maxsize=256)
def _meaning(path: Path, changed: int) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [item for item in body if not _is_text(item)]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def _is_text(node: ast.AST) -> bool:
    """A docstring, of a module, class, function or field: an expression that is nothing but a string."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@functools.cache
def environment() -> dict[str, Any]:
    """Packages, hardware, system, code revision and variables of this process."""
    return {
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "processor": _processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "variables": {name: redacted(os.environ[name]) for name in VARIABLES if name in os.environ},
        **_revision(),
    }


def determinism() -> dict[str, Any]:
    """The switches of torch that decide whether the same sum is always added up in the same order."""
    return {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "matmul_tf32": torch.backends.cuda.matmul.allow_tf32,
    }


USER = re.compile(r"://(?:[^\s/@:]*:\S*|[^\s/@]*)@")
"""A URL's user and password. An S3 secret may hold slashes, so that after a colon all up to the last @ counts."""
SECRET = re.compile(r"(?i)([?&;][\w.-]*(?:key|token|secret|passw|signature|sig|credential|auth)[\w.-]*=)[^\s&;'\"]+")


def redacted(text: str) -> str:
    """The text without the users, passwords, keys and signatures that stand in its URLs."""
    return SECRET.sub(r"\1***", USER.sub("://***@", text))


def own() -> str:
    """What brings the project's own methods, in the words that name a plug-in's package."""
    return " ".join(filter(None, ("vlm-bench", _version("vlm-bench"))))


def machine(device: str) -> str:
    """What a time was measured on: the GPU, or the processor and its threads."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{environment()['processor']}, {threads} thread{'s' * (threads != 1)}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _revision() -> dict[str, Any]:
    """Commit and dirty flag of the checkout the harness runs from; nothing where it is installed without one."""
    here = Path(__file__).resolve().parent.parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != here:
            return {"revision": None, "dirty": None}
        return {
            "revision": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--", "bench", "methods", "datasets")),
        }
    except (OSError, subprocess.SubprocessError):
        return {"revision": None, "dirty": None}


def command() -> str:
    """The command line of this process, as one would type it."""
    program = ["python", "-m", "bench"] if Path(sys.argv[0]).name == "__main__.py" else sys.argv[:1]
    return shlex.join([*program, *sys.argv[1:]])
