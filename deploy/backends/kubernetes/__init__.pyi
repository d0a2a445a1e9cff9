from . import cluster as cluster
from . import config_map as config_map
from . import lease as lease
from . import options as options
from . import replacing as replacing
from . import server as server
from . import site as site
from . import staging as staging
