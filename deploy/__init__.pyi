# ruff: isort: skip_file
# The public names of `deploy`, and where they are: the only table. Type checkers read it, `__init__.py` resolves by it,
# docs/api.md is written from it (`make configs`), section by section.

# Verbs
from .checks import check as check
from .client import connect as connect
from .export import export_model as export_model
from .export import from_jax as from_jax
from .inspection import inspect as inspect
from .regression import diff as diff
from .repository import Repository as Repository
from .repository import mirror as mirror
from .repository import pull as pull
from .rollout import abort as abort
from .rollout import go_on as go_on
from .rollout import history as history
from .rollout import plan_rollback as plan_rollback
from .rollout import plan_rollout as plan_rollout
from .rollout import repair as repair
from .rollout import roll_back as roll_back
from .rollout import roll_out as roll_out
from .serving import build_image as build_image
from .serving import push_image as push_image
from .serving import down as down
from .serving import logs as logs
from .serving import plan as plan
from .serving import status as status
from .serving import up as up
from .serving.doctor.diagnosis import diagnose as diagnose
from .serving.ready import ready as ready
from .smoke import smoke_test as smoke_test
from .spec import load_spec as load_spec

# Recipes
from .export import recipes as recipes

# Values
from .checks import Finding as Finding
from .checks import CheckReport as CheckReport
from .client import Client as Client
from .client import Metadata as Metadata
from .client import Prediction as Prediction
from .export import Classify as Classify
from .export import Exportable as Exportable
from .export import Exported as Exported
from .export import FrozenGraph as FrozenGraph
from .export import Parity as Parity
from .export import Predict as Predict
from .export import Recording as Recording
from .export import Regress as Regress
from .export import SavedModelDirectory as SavedModelDirectory
from .export import TFLite as TFLite
from .goldens import Golden as Golden
from .inspection import Inspection as Inspection
from .readiness import Gap as Gap
from .regression import Comparison as Comparison
from .repository import Manifest as Manifest
from .repository import Fetched as Fetched
from .repository import Mirrored as Mirrored
from .repository import Published as Published
from .repository import Store as Store
from .repository import VersionFacts as VersionFacts
from .rollout import Released as Released
from .rollout import RolloutPlan as RolloutPlan
from .serving import BuiltImage as BuiltImage
from .serving import RunningServer as RunningServer
from .serving import ServerPlan as ServerPlan
from .serving.doctor.evidence import Cause as Cause
from .serving.doctor.diagnosis import Diagnosis as Diagnosis
from .serving.observe import ModelStatus as ModelStatus
from .serving.observe import ServerStatus as ServerStatus
from .serving.ready import ReadyAnswer as ReadyAnswer
from .smoke import SmokeCheck as SmokeCheck
from .smoke import SmokeReport as SmokeReport
from .spec import Spec as Spec
from .state import Release as Release
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
