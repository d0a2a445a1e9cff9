"""Use cases around one running server: up, status, ready, logs, down, plan, doctor, and images that carry their models.

    planning, flags, certificates, preflight   what would be started, and whether it can be
    resolving      which versions the spec wants, of those on disk
    known_good     what a restart serves, when rollouts have changed what the spec says
    start_stop, start_record   up and down, and what they remember
    startup        wait until a started server is ready, or say why not
    snapshot       ask a server what it serves, over each protocol: what deploy.readiness judges
    ready, healthz   is it ready now? as a value, and over HTTP
    observe, drift   status and logs; where spec, ledger, config file and server disagree
    server_log     what a model server printed, and what it means
    image_build    images that carry their models
    doctor         why isn't it served, and what to do
"""

from deploy.serving import certificates
from deploy.serving.flags import misspelled
from deploy.serving.image_build import BuiltImage, base_of, build_image
from deploy.serving.known_good import as_known_good
from deploy.serving.observe import find, logs, status
from deploy.serving.planning import Choice, ServerPlan, choose_backend, plan, target_of
from deploy.serving.resolving import ResolvedModel, wanted
from deploy.serving.start_record import last_started
from deploy.serving.start_stop import RunningServer, down, up

__all__ = [
           "BuiltImage",
           "Choice",
           "ResolvedModel",
           "RunningServer",
           "ServerPlan",
           "as_known_good",
           "base_of",
           "build_image",
           "certificates",
           "choose_backend",
           "down",
           "find",
           "last_started",
           "logs",
           "misspelled",
           "plan",
           "status",
           "target_of",
           "up",
           "wanted",
]
