from .fleet_release import FleetRelease as FleetRelease
from .fleet_release import fleet_releases as fleet_releases
from .ledger import Ledger as Ledger
from .release import Release as Release
from .release import releases as releases
from .release import started_from as started_from
