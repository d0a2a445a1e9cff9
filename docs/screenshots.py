"""screenshots.py DIRECTORY: records ui-release.png and ui-model.png of a real rollout that waits for approval.

Needs the extras of the tests (playwright) and a Chromium. Models are those of docs/examples: three digits of different
training, published into a temporary repository; nothing is left running.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
from playwright.sync_api import sync_playwright

import deploy
from deploy.ui import open_ui
from deploy.ui.watching import SpecSource

SPEC = """
name: demo
models: [{name: digits, versions: [1], labels: {stable: 1}}]
server: {backend: embedded, grpc_port: 0, rest_port: 0, monitoring: {}}
rollout: {soak: 3, hold: 1}
"""
sys.path.insert(0, str(Path(__file__).parent / "examples"))


def publish(repository: Path) -> None:
    """The same model three times, each trained a little longer."""
    import digits

    model: keras.Model = digits.build()
    pixels, labels = digits.data(1000)
    for version in (1, 2, 3):
        deploy.export_model(model, repository, "digits", version=version, examples=[{"pixels": np.float32(pixels[:3])}])
        model.optimizer.learning_rate = 1e-5
        model.fit(pixels, labels, epochs=1, batch_size=50, verbose=0)


def main(out: Path) -> None:
    program = shutil.which("chromium") or sys.exit("there is no Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as directory:
        here = Path(directory)
        publish(here / "models")
        (here / "serving.yaml").write_text(SPEC)
        spec = deploy.load_spec(here / "serving.yaml")
        deploy.up(spec)
        try:
            deploy.roll_out(spec, "digits", 2)
            waits = deploy.roll_out(spec, "digits", 3, pause_before=["promote"])
            with open_ui([SpecSource(spec.path)], port=0) as ui, sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
                for name, path, scheme in (("ui-release", f"releases/{waits.release.id}", "light"),
                                           ("ui-model", "models/digits", "dark")):
                    page = browser.new_page(color_scheme=scheme, viewport={"width": 1280, "height": 800})
                    page.goto(f"{ui.address}/servers/demo/{path}")
                    page.get_by_text("waits before promotion").first.wait_for()
                    page.screenshot(path=out / f"{name}.png", full_page=True)
                browser.close()
            deploy.abort(spec, "digits")
        finally:
            deploy.down(spec)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
