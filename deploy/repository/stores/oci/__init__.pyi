from .store import OciStore as OciStore
from .store import open_address as open_address
