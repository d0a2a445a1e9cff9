from . import ssh as ssh
