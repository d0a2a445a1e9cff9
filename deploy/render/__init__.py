"""From values to what a server reads: config files, command line. Pure functions, but for `write`."""

from deploy.render.argv import argv, flag_text
from deploy.render.configs import files, models_config, ssl_config
from deploy.render.layout import Layout, host_layout, mounted_layout
from deploy.render.writing import write

__all__ = ["Layout", "argv", "files", "flag_text", "host_layout", "models_config", "mounted_layout", "ssl_config",
           "write"]
