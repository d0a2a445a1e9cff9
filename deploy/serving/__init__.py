"""Use cases around one running server: up, status, logs, down, plan, and images that carry their models."""

from deploy.serving import certificates
from deploy.serving.flags import misspelled
from deploy.serving.image_build import BuiltImage, base_of, build_image
from deploy.serving.known_good import as_proven
from deploy.serving.observe import find, logs, status
from deploy.serving.planning import Choice, ServerPlan, choose_backend, plan, target_of
from deploy.serving.resolving import Wanted, wanted
from deploy.serving.start_record import last_started
from deploy.serving.starting import Running, up
from deploy.serving.stopping import down

__all__ = ["BuiltImage", "Choice", "Running", "ServerPlan", "Wanted", "as_proven", "base_of", "build_image",
           "certificates", "choose_backend", "down", "find", "last_started", "logs", "misspelled", "plan", "status",
           "target_of", "up", "wanted"]
