"""Versions on their way into pods that mirror a remote repository: named in the mirror's list, awaited in each pod."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.backends.base import Progress
from deploy.backends.kubernetes.config_map import ConfigMapStore
from deploy.backends.kubernetes.site import Site
from deploy.errors import ServerError
from deploy.render.kubernetes import MIRROR, MIRROR_LIST, labels, mirror_list, pod_layout, with_versions
from deploy.spec import Spec
from deploy.waiting import Deadline, poll

if TYPE_CHECKING:
    from deploy.repository import StoredVersion

_ABSENT = 'for p; do [ -e "$p" ] || echo "$p"; done'


def fetch_into_pods(site: Site, spec: Spec, versions: Sequence[StoredVersion], progress: Progress) -> None:
    """Have every pod's mirror fetch them, digests compared, and wait until all have. Pods that start later fetch what
    the list says before their server starts.

    Raises ServerError naming the pod and the version that isn't there in time.
    """
    store = ConfigMapStore(site, labels(spec))
    text = store.read(MIRROR_LIST)
    if text is None or not versions:
        return
    wanted = with_versions(text or mirror_list(spec.models), [stored.mv for stored in versions])
    if wanted != text:
        store.write({MIRROR_LIST: wanted})
    places = {Path(model.base_path).name: pod_layout(spec).base_paths[model.name] for model in spec.models}
    paths = {f"{places[v.mv.name]}/{v.mv.version}": str(v.mv) for v in versions if v.mv.name in places}
    waiting: dict[str, list[str]] = {}

    def arrived() -> bool | None:
        waiting.clear()
        for pod in site.pods():
            if pod.running and (absent := site.execute(pod.name, "sh", "-c", _ABSENT, "sh", *paths)):
                waiting[pod.name] = [paths[path] for path in absent.splitlines() if path in paths]
        return None if waiting else True

    progress(f"waiting for {', '.join(paths.values())} in every pod")
    deadline = Deadline(spec.rollout.load_timeout)
    if not poll(arrived, deadline, first=0.5, most=3.0):
        pod, absent = next(iter(waiting.items()))
        raise ServerError(f"{', '.join(absent)} isn't in pod {pod} after {deadline.waited:.0f} s",
                          hint=f"kubectl logs {pod} -c {MIRROR} says why; rollout/load_timeout is how long is waited",
                          id="kubernetes-not-mirrored", details={"pods": waiting})
