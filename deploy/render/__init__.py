"""From values to what a server reads. Pure functions, but for `write`.

    configs   config files, command line, and the paths that the server finds things under
    reading   an existing models.config as a spec
    writing   files that appear whole or not at all
"""

from deploy.render.configs import Layout, argv, files, flag_text, host_layout, models_config, mounted_layout, ssl_config
from deploy.render.writing import write

__all__ = ["Layout", "argv", "files", "flag_text", "host_layout", "models_config", "mounted_layout", "ssl_config",
           "write"]
