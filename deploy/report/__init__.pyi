from .bom import ml_bom as ml_bom
from .explanations import Explanation as Explanation
from .explanations import explain as explain
from .formats import junit as junit
from .formats import junit_of_servers as junit_of_servers
from .formats import sarif as sarif
