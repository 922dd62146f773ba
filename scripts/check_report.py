"""Opens pages of runs in a browser and asks it what a reader would see."""

import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

OUT = Path("target/report-pages")

# What is wider than the window, and what is not there, as the browser sees it.
LOOK = """() => ({
    scroll: document.documentElement.scrollWidth,
    window: document.documentElement.clientWidth,
    pictures: document.images.length,
    missing: [...document.images].filter(image => !image.complete || !image.naturalWidth).map(image => image.alt),
    silent: [...document.images].filter(image => !image.alt).length
        + [...document.querySelectorAll('.chart')].filter(chart => !chart.ariaLabel).length,
    charts: document.querySelectorAll('.chart svg').length,
    empty: [...document.querySelectorAll('.chart svg')].filter(svg => svg.getBoundingClientRect().height < 50).length,
    paper: getComputedStyle(document.body).backgroundColor,
})"""


def main():
    chromium, elucidate, *runs = sys.argv[1:]
    OUT.mkdir(parents=True, exist_ok=True)
    pages = {Path(run).name: [run] for run in runs}
    if len(runs) > 1:
        pages["together"] = runs
    faults = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, of in pages.items():
            path = (OUT / f"{name}.html").resolve()
            subprocess.run([elucidate, "report", *of, "--out", path], check=True, stdout=subprocess.DEVNULL)
            papers = set()
            for width, scheme in [(400, "light"), (1600, "light"), (400, "dark"), (1600, "dark")]:
                context = browser.new_context(
                    viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=True
                )
                page = context.new_page()
                requests, errors = [], []
                page.on("request", lambda request: requests.append(request.url))
                page.on("console", lambda message: errors.append(message.text))
                page.goto(path.as_uri())
                seen = page.evaluate(LOOK)
                papers.add((scheme, seen["paper"]))
                screenshot = OUT / f"{name}-{width}-{scheme}.png"
                page.screenshot(path=screenshot, full_page=True)
                loaded = [url for url in requests if not url.startswith(("data:", path.as_uri()))]
                checks = {
                    f"loads {loaded}": loaded,
                    f"says {errors}": errors,
                    f"is {seen['scroll']} pixels wide": seen["scroll"] > seen["window"],
                    f"lacks {seen['missing']}": seen["missing"],
                    "has pictures without a text": seen["silent"],
                    "has empty charts": seen["empty"],
                    "has no charts": not seen["charts"],
                    "has no pictures": not seen["pictures"],
                }
                wrong = [what for what, is_so in checks.items() if is_so]
                faults += [f"{name} at {width}, {scheme}: {what}" for what in wrong]
                height = Image.open(screenshot).height
                print(
                    f"{name}, {width} pixels, {scheme}: {len(requests)} request, {seen['pictures']} pictures, "
                    f"{seen['charts']} charts, {seen['scroll']} of {seen['window']} pixels wide, {height} high"
                )
                context.close()
            if len({paper for _, paper in papers}) != 2:
                faults.append(f"{name}: light and dark are alike")
        browser.close()
    sys.exit("\n".join(faults) or None)


main()
