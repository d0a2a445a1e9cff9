from .members import select_servers as select_servers
from .parallel import ServerResult as ServerResult
from .parallel import everywhere as everywhere
from .ready import FleetProber as FleetProber
from .ready import FleetReady as FleetReady
