"""What the README's first command downloads and unpacks.

    uv run python benchmarks/install.py --write

A copy of this checkout is locked and synced with the extra quickstart in a folder of its own. Sizes of the download are
those that the package index states for the wheels of this platform.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename
from record import arguments, finish

ROOT = Path(__file__).parents[1]
NVIDIA = re.compile(r"nvidia|cuda|triton")


def wheel_bytes(package: dict[str, Any], tags: set[str]) -> int:
    """Of the wheel that this Python takes."""
    for wheel in package.get("wheels", []):
        name = wheel.get("name") or wheel.get("url", wheel.get("path", "")).rpartition("/")[2]
        if tags & {str(tag) for tag in parse_wheel_filename(name)[3]}:
            return int(wheel.get("size", 0))
    return 0


def main() -> None:
    options = arguments(__doc__).parse_args()
    tags = {str(tag) for tag in sys_tags()}
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "copy"
        copy.mkdir()
        for name in ("pyproject.toml", "README.md", "src", "recipes", "results"):
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, copy / name)
        words = ["--extra", "quickstart", "--quiet", "--directory", str(copy)]
        subprocess.run(["uv", "export", "--format", "pylock.toml", "-o", "pylock.toml", *words], check=True)
        locked = tomllib.loads((copy / "pylock.toml").read_text())["packages"]
        chosen = [own for own in locked if "marker" not in own or Marker(own["marker"]).evaluate()]
        sizes = {own["name"]: wheel_bytes(own, tags) for own in chosen if own["name"] != "pocketclip"}
        subprocess.run(["uv", "sync", "--python", sys.executable, *words], check=True)
        (packages,) = (copy / ".venv").glob("lib/python*/site-packages")
        unpacked = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file())
    gigabytes = {name: size / 1e9 for name, size in sizes.items()}
    values = {
        "what": "uv sync --extra quickstart, sizes in GB (10^9 bytes)",
        "platform": sysconfig.get_platform(),
        "num_packages": len(sizes),
        "download_gb": round(sum(gigabytes.values()), 2),
        "download_nvidia_gb": round(sum(size for name, size in gigabytes.items() if NVIDIA.search(name)), 2),
        "download_torch_gb": round(gigabytes["torch"], 2),
        "unpacked_gb": round(unpacked / 1e9, 2),
    }
    finish(sys.argv[0], values, write=options.write)


if __name__ == "__main__":
    main()
