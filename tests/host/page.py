"""Opens ComfyUI's page in a headless Chromium, as a user would, and reports what is there.

Run with the test host's Python (it has playwright), with a JSON object on standard input; see
`tests/host/browser.py`, which does that. Prints a JSON object.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import (  # pyright: ignore[reportMissingImports]
    Locator,
    Page,
    TimeoutError,
    ViewportSize,
    sync_playwright,
)

READY = """() => window.app?.graph && window.app?.canvas && document.querySelector('#graph-canvas')
  && Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 50"""

LOAD = """async ([workflow, name]) => {
  await window.app.loadGraphData(workflow, true, true, name)
  const nodes = window.app.graph._nodes
  const unknown = nodes.filter((n) => !window.LiteGraph.registered_node_types[n.type])
  return unknown.map((n) => n.type)
}"""

PROMPT = "async () => (await window.app.graphToPrompt()).output"

SHOW_ALL = """([left_of, right_of, above]) => {
  const canvas = window.app.canvas
  const boxes = window.app.graph._nodes.map((n) => [n.pos[0], n.pos[1] - 40,
    n.pos[0] + n.size[0], n.pos[1] + n.size[1]])
  const [left, top] = [0, 1].map((i) => Math.min(...boxes.map((b) => b[i])))
  const [right, bottom] = [2, 3].map((i) => Math.max(...boxes.map((b) => b[i])))
  const area = canvas.canvas.getBoundingClientRect()
  const scale = Math.min(1.2, (area.width - left_of - right_of) / (right - left),
    (area.height - 2 * above) / (bottom - top))
  canvas.ds.scale = scale
  canvas.ds.offset[0] = (area.width + left_of - right_of) / scale / 2 - (left + right) / 2
  canvas.ds.offset[1] = area.height / scale / 2 - (top + bottom) / 2
  canvas.setDirty(true, true)
}"""
"""Margins in pixels of the page, in which no node lies."""

BOXES = """() => {
  const { scale, offset } = window.app.canvas.ds
  const area = window.app.canvas.canvas.getBoundingClientRect()
  const x = (value) => area.left + (value + offset[0]) * scale
  const y = (value) => area.top + (value + offset[1]) * scale
  return Object.fromEntries(window.app.graph._nodes.map((n) => [n.id, [x(n.pos[0]),
    y(n.pos[1] - 30), x(n.pos[0] + n.size[0]), y(n.pos[1] + n.size[1])]]))
}"""
"""Where each node lies on the page: left, top, right, bottom."""

TEXTS = """() => Object.fromEntries(window.app.graph._nodes.filter((n) => n.type == 'DEvUDPMeasure')
  .map((n) => [n.title, n.widgets?.find((w) => w.name == 'numbers')?.value ?? '']))"""

PREVIEWS = """() => window.app.graph._nodes.filter((n) => n.type == 'DEvUDPRestore'
  && (n.imgs?.length || n.widgets.some((w) => w.name == '$$canvas-image-preview')))
  .map((n) => n.title)"""
"""The nodes that still show the last preview of a run."""

KEPT = "() => Object.keys(window.app.nodePreviewImages ?? {})"
"""The names of nodes for which the page keeps a preview, also those of blueprints."""

VIEWS = """() => window.app.graph._nodes.flatMap((n) => (n.widgets ?? [])
  .filter((w) => w.name == 'before_after').map((w) => w.element.offsetHeight))"""
"""How tall each node's view of before and after is, in the page's pixels without zoom."""

SHOWN = """() => Object.fromEntries(window.app.graph._nodes.map((n) => [n.title,
  (n.widgets ?? []).filter((w) => ['before_after', 'found', '$$node-text-preview'].includes(w.name))
  .map((w) => w.name == 'before_after' ? 'a view' : String(w.box?.textContent ?? w.value))
  .sort()])
  .filter(([, shown]) => shown.length))"""
"""What nodes show of their last run: a view of before and after, and texts."""

NAMES = """(type) => {
  const node = window.app.graph._nodes.find((n) => n.type == type)
  return [node.title, ...node.inputs.map((i) => i.label ?? i.localized_name ?? i.name)]
}"""

SELECT = """(type) => {
  let node = window.app.graph._nodes.find((n) => n.type == type)
  if (!node) {
    node = window.LiteGraph.createNode(type)
    window.app.graph.add(node)
    node.pos = [...window.app.graph._nodes[0].pos]
  }
  window.app.canvas.deselectAll()
  window.app.canvas.selectNode(node)
}"""
"""Selects a node of a type, a new one if there is none."""

SEARCH_BOX = ".comfy-vue-node-search-container input, input[role=combobox]:visible"
TAB = ".workflow-tabs .p-togglebutton, [data-testid=workflow-tab] [role=tab]"
FOUND = ".p-autocomplete-option, [data-testid=result-item], [data-testid=node-search-result]"
"""On pages of 2025, and of 2026."""

RUN_S = 240
SLOW_MS = 180_000  # on a busy machine


def main() -> None:
    """Answers the request on standard input."""
    request = json.load(sys.stdin)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=request["chromium"],
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        size = ViewportSize(width=request["width"], height=request["height"])
        page = browser.new_page(viewport=size, device_scale_factor=request["scale"])
        report = visit(page, request)
        browser.close()
    json.dump(report, sys.stdout)


def visit(page: Page, request: dict[str, Any]) -> dict[str, Any]:
    """Opens the page, every workflow in it, and the help of a node."""
    url, out = request["url"], Path(request["out"])
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(f"{error}\n{getattr(error, 'stack', '')}"))
    page.on("console", lambda line: errors.extend([line.text] if line.type == "error" else []))
    page.on("response", lambda r: errors.extend([f"{r.status} {r.url}"] if r.status >= 400 else []))
    page.route(lambda other: not other.startswith((url, "data:", "blob:")), lambda r: r.abort())
    settings = {
        "Comfy.TutorialCompleted": True,
        "Comfy.Minimap.Visible": False,
        "Comfy.Locale": request["locale"],
        "Comfy.ColorPalette": request["palette"],
        "Comfy.VueNodes.Enabled": request["nodes2"],
    }
    page.add_init_script("localStorage.setItem('vueNodesBannerDismissed', 'true')")
    for key, value in settings.items():
        page.request.post(f"{url}/api/settings/{key}", data=json.dumps(value))
    page.goto(url, wait_until="domcontentloaded", timeout=SLOW_MS)
    page.wait_for_function(READY, timeout=SLOW_MS)
    page.wait_for_timeout(1000)
    report: dict[str, Any] = {"workflows": {}}
    for path in map(Path, request["workflows"]):
        report["workflows"][path.stem] = open_workflow(page, path, out, run=request["run"])
    if request["help"]:
        report["names"] = page.evaluate(NAMES, request["help"][0])
    report["help"] = {kind: open_help(page, kind, out) for kind in request["help"]}
    if request["tabs"]:
        report["tabs"] = switch_tabs(page, *request["tabs"])
    if request["cancel"]:
        report["cancelled"] = cancel(page, Path(request["cancel"]))
    report["search"] = {word: search(page, word) for word in request["search"]}
    if request["filtered"]:
        words = request["search"]
        report["filtered"] = {word: search(page, word, request["filtered"]) for word in words}
    if request["reload"]:
        report["reloaded"] = reload(page, Path(request["reload"]), out)
    report["errors"] = errors
    return report


def open_workflow(page: Page, path: Path, out: Path, *, run: bool) -> dict[str, Any]:
    """Loads a workflow, runs it by the page's own button, and takes an image."""
    workflow = json.loads(path.read_text(encoding="utf-8"))
    unknown = page.evaluate(LOAD, [workflow, path.stem])
    page.wait_for_timeout(500)
    page.evaluate(SHOW_ALL, [110, 110, 160])
    answer = {"unknown": unknown, "prompt": page.evaluate(PROMPT), "status": None}
    if run:
        answer["status"] = queue(page)
        page.wait_for_timeout(2500)  # until the images are on the nodes, and previews gone
    answer["texts"] = page.evaluate(TEXTS)
    answer["previews"] = page.evaluate(PREVIEWS) + page.evaluate(KEPT)
    answer["views"] = page.evaluate(VIEWS)
    answer["alerts"] = page.locator(".p-toast-message").all_inner_texts()
    answer["boxes"] = page.evaluate(BOXES)
    answer["shown"] = page.evaluate(SHOWN)
    page.screenshot(path=out / f"{path.stem}.png")
    return answer


def switch_tabs(page: Page, away: str, back: str) -> dict[str, str]:
    """Opens the tab of one workflow, then that of another; returns the numbers shown there."""
    for name in (away, back):
        page.locator(TAB, has_text=name[:12]).last.click()
        page.wait_for_timeout(1500)
    return page.evaluate(TEXTS)


def reload(page: Page, path: Path, out: Path) -> dict[str, Any]:
    """Runs a workflow, loads the page anew, and runs it again, which computes nothing."""
    before = open_workflow(page, path, out, run=True)["shown"]
    page.screenshot(path=out / f"{path.stem} before a reload.png")
    page.reload(wait_until="domcontentloaded", timeout=SLOW_MS)
    page.wait_for_function(READY, timeout=SLOW_MS)
    page.wait_for_timeout(2000)
    after = open_workflow(page, path, out, run=True)["shown"]
    page.screenshot(path=out / f"{path.stem} after a reload.png")
    return {"before": before, "after": after}


def search(page: Page, word: str, source: str = "") -> list[str]:
    """What the node search, opened by a double-click, finds for a word; of one source only."""
    page.evaluate("() => { const c = window.app.canvas; c.ds.offset[1] += 1e5; c.setDirty(true) }")
    box = open_search(page)
    if source:
        page.get_by_role("button", name=source, exact=True).last.click(timeout=60_000)
    box.fill(word, timeout=60_000)
    page.wait_for_timeout(800)
    found = page.locator(FOUND).all_inner_texts()
    page.keyboard.press("Escape")
    box.wait_for(state="hidden", timeout=60_000)
    page.evaluate("() => { window.app.canvas.ds.offset[1] -= 1e5 }")
    return [" ".join(text.split()) for text in found]


def open_search(page: Page) -> Locator:
    """Double-clicks the empty canvas until the search is there: on a busy machine the page may take
    the two clicks for single ones."""
    box = page.locator(SEARCH_BOX).first
    x, y = page.viewport_size["width"] * 0.6, page.viewport_size["height"] * 0.6  # pyright: ignore[reportOptionalSubscript]
    for _ in range(10):
        page.mouse.dblclick(x, y)
        with contextlib.suppress(TimeoutError):
            box.wait_for(timeout=10_000)
            return box
    return box


def queue(page: Page) -> str:
    """Queues what is open and waits for it; returns its status."""
    history = "async () => await (await fetch('/api/history')).json()"
    before = set(page.evaluate(history))
    page.evaluate("() => window.app.queuePrompt(0, 1)")
    for _ in range(RUN_S * 2):
        page.wait_for_timeout(500)
        new = {key: run for key, run in page.evaluate(history).items() if key not in before}
        if new:
            return next(iter(new.values()))["status"]["status_str"]
    return "no result in time"


def cancel(page: Page, path: Path) -> dict[str, Any]:
    """Runs a workflow until it shows a preview, then stops it; returns what is left of that."""
    page.evaluate(LOAD, [json.loads(path.read_text(encoding="utf-8")), path.stem])
    history = "async () => Object.keys(await (await fetch('/api/history')).json()).length"
    before = page.evaluate(history)
    page.evaluate("() => window.app.queuePrompt(0, 1)")
    shown = f"() => ({PREVIEWS})().length > 0"
    page.wait_for_function(shown, timeout=SLOW_MS)
    page.evaluate("async () => { await fetch('/api/interrupt', { method: 'POST' }) }")
    for _ in range(RUN_S * 2):
        page.wait_for_timeout(500)
        if page.evaluate(history) > before:
            break
    page.wait_for_timeout(2500)
    previews = page.evaluate(PREVIEWS) + page.evaluate(KEPT)
    return {"previews": previews, "views": page.evaluate(VIEWS)}


def open_help(page: Page, node_type: str, out: Path) -> dict[str, Any]:
    """Selects a node, presses the button for its help, and reads what appears."""
    page.evaluate(SHOW_ALL, [370, 30, 250])  # room for the help, and for the buttons above the node
    button = page.locator(
        '.selection-toolbox [data-testid="info-button"], '
        ".selection-toolbox button:has(i[class*='info']), "
        ".selection-toolbox button:has(i[class*='help'])"
    ).first
    for last in (*[False] * 9, True):  # on a busy machine a page may leave the buttons hidden
        page.evaluate(SELECT, node_type)
        page.wait_for_timeout(700)
        with contextlib.nullcontext() if last else contextlib.suppress(TimeoutError):
            button.click(timeout=6_000)
            break
    page.wait_for_timeout(2000)
    text = page.locator(".node-help-content").first.inner_text()
    images = page.locator(".node-help-content img").evaluate_all(
        "all => all.map((i) => [i.src, i.naturalWidth])"
    )
    page.screenshot(path=out / f"help_{node_type}.png")
    # As it was, for the next one; a second press on the button closes it.
    button.click(timeout=60_000)
    page.wait_for_timeout(500)
    return {"text": text, "images": images}


if __name__ == "__main__":
    main()
