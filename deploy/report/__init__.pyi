from .formats import junit as junit
from .formats import sarif as sarif
