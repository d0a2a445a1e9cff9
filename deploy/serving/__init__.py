"""Use cases around one running server: up, status, ready, logs, down, plan, doctor, and images that carry their models.

    adopting, adoption   a server that somebody else started becomes a spec, from what can be known of it
    taking_over    what is kept for such a server to be told, and what that would unload
    planning, certificates   what would be started
    mirrored       what a server needs of a repository that is elsewhere
    preflight      what keeps a server from starting: flags, files that its user can't read
    release_flags  flags that the release in the server's image doesn't know yet
    resolving      which versions are started: those that the spec wants, of those on disk, or known good since
    start_stop, start_record   up and down, and what they remember
    startup        wait until a started server is ready, or say why not
    snapshot       ask a server what it serves, over each protocol: what deploy.readiness judges
    ready, healthz   is it ready now? as a value, and over HTTP
    observe, drift   status and logs; where spec, ledger, config file and server disagree
    retention, references, proof   which versions may go; what refers to one; who reads there
    server_log     what a model server printed, and what it means
    image_build, image_push   images that carry their models, built by an engine or put together in a registry
    doctor         why isn't it served, and what to do
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
