# ruff: isort: skip_file
# The public names of `deploy`, and where they are: the only table. Type checkers read it, `__init__.py` resolves by it,
# docs/api.md is written from it (`make configs`), section by section.

# Verbs
from .checks import check as check
from .client import connect as connect
from .export import export_model as export_model
from .inspection import inspect as inspect
from .repository import Repository as Repository
from .rollout import plan_rollback as plan_rollback
from .rollout import plan_rollout as plan_rollout
from .rollout import roll_back as roll_back
from .rollout import roll_out as roll_out
from .serving import down as down
from .serving import up as up
from .smoke import smoke_test as smoke_test
from .spec import load_spec as load_spec

# Values
from .export import Classify as Classify
from .export import Exportable as Exportable
from .export import Predict as Predict
from .export import Recording as Recording
from .export import Regress as Regress
from .export import TFLite as TFLite
from .types import All as All
from .types import Contract as Contract
from .types import Endpoint as Endpoint
from .types import Latest as Latest
from .types import ModelRef as ModelRef
from .types import ModelVersion as ModelVersion
from .types import ServedModel as ServedModel
from .types import Signature as Signature
from .types import Specific as Specific
from .types import TensorSpec as TensorSpec
from .types import Tls as Tls
from .types import VersionState as VersionState
from .types import VersionStatus as VersionStatus

# Errors
from .errors import BackendMissing as BackendMissing
from .errors import BadReply as BadReply
from .errors import BadRequest as BadRequest
from .errors import BreakingChange as BreakingChange
from .errors import CheckFailed as CheckFailed
from .errors import ClientError as ClientError
from .errors import DeployError as DeployError
from .errors import DigestMismatch as DigestMismatch
from .errors import ExportError as ExportError
from .errors import Gone as Gone
from .errors import IncompleteVersion as IncompleteVersion
from .errors import LockHeld as LockHeld
from .errors import Malformed as Malformed
from .errors import ReviewRequired as ReviewRequired
from .errors import NotReady as NotReady
from .errors import ParityError as ParityError
from .errors import PortTaken as PortTaken
from .errors import Rejected as Rejected
from .errors import RepositoryError as RepositoryError
from .errors import RolloutError as RolloutError
from .errors import ServerError as ServerError
from .errors import SmokeFailed as SmokeFailed
from .errors import SpecError as SpecError
from .errors import StartFailed as StartFailed
from .errors import TimedOut as TimedOut
from .errors import Unreachable as Unreachable
from .errors import VersionExists as VersionExists
from .errors import VersionNotFound as VersionNotFound

from .version import __version__ as __version__
