"""Is it served as it should be, and if not, why: `ready` says yes or no, `doctor` says what is wrong and what to do.

    ready      exactly the wanted versions and labels, both ports, one right answer; as a value
    healthz    the same over HTTP
    cases      a version's golden request
    evidence   everything that a diagnosis looks at, as one frozen value
    collect    evidence from a spec's server, from any container, from a log
    disk, server_files   what lies in a base path, as the server sees it: mounts and images included
    rules      evidence -> causes and fixes; pure (files, flags, loading, ports, programs: by what they are about)
    examine    all rules, the most likely cause last
"""

from __future__ import annotations

from deploy.diagnosis.ready import Answer, Prober, expected_of

__all__ = ["Answer", "Prober", "expected_of"]
