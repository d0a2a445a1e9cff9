from .source import ModelSource as ModelSource
from .table import NAMES as NAMES
from .table import find as find
