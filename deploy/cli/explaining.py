"""tfs explain: what a message means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from deploy.cli.options import command, table, tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from deploy.report import Explanation


def register(app: click.Group) -> None:
    @command(app, "explain", example="tfs explain port-taken\ntfs explain docker permission\ntfs explain")
    @click.argument("words", nargs=-1, metavar="[ID | WORD...]")
    def explain(words: tuple[str, ...], as_json: bool) -> None:
        """Say what a message means, and what to do.

        Every error ends with its id; findings of `tfs check`, `tfs doctor` and `tfs smoke` have one, too (`rule` in
        their JSON). Words that are no id are looked for in all explanations; without any, all ids are listed.
        """
        from deploy import report
        from deploy.report.explanations import explanations, mentioning

        text = " ".join(words)
        known = [] if text in explanations() else mentioning(text)
        meant = known or [report.explain(text)]
        tell([one.to_json() for one in meant], as_json, lambda: _list(meant) if known else _page(meant[0]))


def _page(one: Explanation) -> str:
    return f"{one.id}: {one.title}\n\n{one.text}"


def _list(several: Sequence[Explanation]) -> Table:
    listing = table("", "id", "means")
    for one in several:
        listing.add_row(one.id, one.title)
    return listing
