"""tfs image build: immutable releases."""

from __future__ import annotations

from pathlib import Path

import click

from deploy.cli.options import command, load_spec, spec_option, tell
from deploy.cli.progress import steps


def register(app: click.Group) -> None:
    @app.group()
    def image() -> None:
        """Build images that carry their models."""

    @command(image, "build", example="tfs image build --spec serving.yaml --tag registry.example.com/digits:2026-11-21")
    @spec_option
    @click.option("--tag", required=True, help="What to call the image, name:tag.")
    @click.option("--image", "base", help="The serving image to build on.  [default: the spec's server/image]")
    @click.option("--no-smoke", is_flag=True, help="Tag it without asking it anything.")
    def build(spec_path: Path, tag: str, base: str | None, no_smoke: bool, as_json: bool) -> None:
        """Bake models and configs into a serving image.

        The versions that the spec wants now go in and stay. The image is started and smoke-tested; only then it is
        tagged. Its label org.tfs-deploy.models carries the digest of each version.
        """
        from deploy import serving
        from deploy.cli.smoke import gate

        spec = load_spec(spec_path)
        with steps(f"building {tag}", quiet=as_json) as progress:
            built = serving.build_image(spec, tag, base_image=base, progress=progress,
                                        smoke=None if no_smoke else gate(spec))
        tell(built.to_json(), as_json, lambda: "\n".join(
            [f"built {built.tag} ({built.id})", *(f"  {name}  {digest}" for name, digest in built.models.items())]))
