"""Every page in a real browser, on a phone and on a desk, light and dark: axe finds nothing, nothing is cut.

Needs Chromium on the path and axe-core: its `axe.min.js` named by POCKETCLIP_AXE, or `npm install --no-save axe-core`
in the repository's folder.
"""

import base64
import hashlib
import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from example_pages import write_pages
from grids import grid_record, write_grid
from pocketclip.study.page import write_study_page

AXE = Path(os.environ.get("POCKETCLIP_AXE", Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"))
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
WIDTHS = (390, 1280)
LOOK = """
<script>AXE</script>
<script>
document.querySelectorAll("details").forEach(part => part.open = true);
axe.run({resultTypes: ["violations"]}).then(found => parent.postMessage(JSON.stringify({
  violations: found.violations.map(of => of.id + ": " + of.nodes.map(node => node.html.slice(0, 160)).join(" | ")),
  dark: matchMedia("(prefers-color-scheme: dark)").matches,
  cut: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  wide: [...document.querySelectorAll("main *:not(pre)")].filter(
    part => part.getBoundingClientRect().right > innerWidth + 1 && !part.closest("thead, pre, .scrolls")
  ).map(part => part.outerHTML.slice(0, 160)),
}), "*"));
</script></body>
"""
FRAMES = """<!doctype html><body><iframe style="border: 0; height: 1400px"></iframe><pre></pre><script>
const jobs = JOBS, results = [], frame = document.querySelector("iframe");
function next() {
  if (results.length === jobs.length) return document.querySelector("pre").textContent = JSON.stringify(results);
  const [page, width] = jobs[results.length];
  frame.style.width = width + "px";
  frame.src = page;
}
onmessage = event => { results.push(JSON.parse(event.data)); next(); };
next();
</script></body>
"""

USE = """
const chart = document.querySelector(".chart"), tip = chart.querySelector(".tip"), said = {}, at = () => {
  const [own, area] = [tip, chart].map(part => part.getBoundingClientRect());
  return own.left >= area.left - 1 && own.right <= area.right + 1;
};
const key = name => chart.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
said.before = tip.hidden;
chart.focus();
said.focused = document.activeElement === chart;
key("ArrowRight"); said.first = tip.textContent; said.inside = at();
key("End"); said.last = tip.textContent; said.insideAtEnd = at();
key("ArrowRight"); said.again = tip.textContent;
key("Escape"); said.escaped = tip.hidden;
chart.querySelectorAll(".mark")[5].dispatchEvent(new PointerEvent("pointerenter"));
said.hovered = tip.textContent;
chart.dispatchEvent(new PointerEvent("pointerleave")); said.left = tip.hidden;
said.titles = chart.querySelectorAll(".mark title").length;
said.buttons = document.querySelectorAll(".command button").length;
document.querySelector(".command button").click();
setTimeout(() => {
  said.button = document.querySelector(".command button").textContent;
  document.body.innerHTML = "<pre id=said></pre>";
  document.getElementById("said").textContent = JSON.stringify(said);
}, 500);
"""

pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed"),
    pytest.mark.skipif(
        not AXE.is_file(), reason=f"axe-core is not at {AXE}; set POCKETCLIP_AXE, or npm install --no-save axe-core"
    ),
]


def look_at(pages: list[Path], folder: Path, *, dark: bool) -> dict[tuple[str, int], Any]:
    """What axe and the layout say of each page at each width."""
    axe = AXE.read_text(encoding="utf-8").replace("</script", r"<\/script")
    for page in pages:
        text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
        (folder / page.name).write_text(text.replace("</body>", LOOK.replace("AXE", axe, 1)), encoding="utf-8")
    jobs = [(page.name, width) for page in pages for width in WIDTHS]
    (folder / "frames.html").write_text(FRAMES.replace("JOBS", json.dumps(jobs)), encoding="utf-8")
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,1500"),
        f"--user-data-dir={folder / 'profile'}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        *("--virtual-time-budget=600000", "--dump-dom", f"file://{folder / 'frames.html'}"),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True).stdout
    found = re.search(r"<pre>(.+?)</pre>", shown, re.DOTALL)
    assert found, f"the browser came to no end: {shown[-500:]}"
    return dict(zip(jobs, json.loads(html.unescape(found[1])), strict=True))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_and_nothing_is_cut(tmp_path: Path, dark: bool) -> None:
    (tmp_path / "seen").mkdir()
    grid = write_grid(tmp_path / "grid", grid_record(budgets=[24e3, 96e3, 384e3]))
    pages = [*write_pages(tmp_path), write_study_page(grid, tmp_path / "grid.html")]
    for (page, width), result in look_at(pages, tmp_path / "seen", dark=dark).items():
        assert result == {"violations": [], "dark": dark, "cut": 0, "wide": []}, (page, width)


def test_points_tell_their_recipe_to_keys_and_mouse_and_lines_are_copied(tmp_path: Path) -> None:
    folder = write_grid(tmp_path / "grid", grid_record(budgets=[24e3, 96e3]))
    page = write_study_page(folder)
    allowed = base64.b64encode(hashlib.sha256(USE.encode()).digest()).decode()
    text = page.read_text(encoding="utf-8").replace("script-src '", f"script-src 'sha256-{allowed}' '", 1)
    page.write_text(text.replace("</body>", f"<script>{USE}</script></body>"), encoding="utf-8")  # under its own policy
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=600,1500"),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000", "--dump-dom", f"file://{page}"),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r'<pre id="said">(.+?)</pre>', shown, re.DOTALL)
    assert found, f"the page's script did not run: {shown[-500:]}"
    said = json.loads(html.unescape(found[1]))
    for name in ("before", "focused", "inside", "insideAtEnd", "escaped", "left"):
        assert said[name] is True, name
    for name in ("first", "last", "hovered"):
        assert re.search(
            r"\nerror [\d.]+ \[.+\n.+\nflickr/flickr8k_finetune_cpu\nmodel.image_encoder.name=", said[name]
        )
    assert said["first"] == said["again"] != said["last"]  # from the last point to the first
    assert (said["titles"], said["buttons"]) == (0, 2)
    assert said["button"] in ("Copied", "Selected: press Ctrl-C")


def test_what_is_wrong_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "seen").mkdir()
    page = tmp_path / "bad.html"
    faint = '<p style="color: #aaa; background: #fff; width: 900px">faint</p>'
    page.write_text(f'<html lang="en"><title>x</title><body><main><h1>x</h1><img src="data:,">{faint}</main></body>')
    found = look_at([page], tmp_path / "seen", dark=False)
    problems = " ".join(found["bad.html", 390]["violations"])
    assert "image-alt" in problems
    assert "color-contrast" in problems
    assert found["bad.html", 390]["cut"] > 0
    assert found["bad.html", 390]["wide"]
    assert found["bad.html", 1280]["cut"] == 0
