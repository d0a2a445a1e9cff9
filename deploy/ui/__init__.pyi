from .running import UiServer as UiServer
from .running import open_ui as open_ui
