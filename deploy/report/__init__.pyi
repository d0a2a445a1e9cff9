from .bom import ml_bom as ml_bom
from .formats import junit as junit
from .formats import sarif as sarif
