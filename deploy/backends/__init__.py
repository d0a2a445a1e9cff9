"""Where model servers run. One Backend protocol, one object for each kind of place, one contract suite.

    backend            the protocol: capabilities, plan, config store, find, logs; the config store on this machine
    registry           all kinds, and the questions that go to each of them: find, logs, config
    base               one server: start, look at, stop; what is told of it
    process            process and embedded: child processes of this machine
    process_server     one child process that may outlive us
    record             run.json: how another process finds it
    remote             remote: a server that somebody else starts, known by its addresses
    remote_config      the config file of such a server, here and where it reads it
    verified_copies    which copies on such a server's machine needn't be read again
    container          container: a Docker engine
    container_server   one container that can do as little as possible besides serving
    container_files    how it gets its files: by mounts, or by volumes where its engine sees other files
    volumes            named volumes, read and written through their engine
    volume_files       what a server finds in them: versions that were brought there, config files
    swarm              Docker Swarm
    swarm_server       one service there
    container_options  how it is run, as plain data for the Docker SDK
    engine             the engine, on this machine or another
    engine_errors      the one place where its errors become ours
    docker_host        where the engine is: as the spec says, or as the docker CLI finds it
    inspecting         any container or image, ours or not, looked at from outside
    images             images built on the engine
    shared_place       where all operators of some servers see their lock, ledgers, and what servers are told
    kubernetes/        pods in a cluster
    replacement        a server that runs gets another configuration: what changes, new replicas for old ones
    ports              which ports are free, and who has those that aren't

Whoever asks a server something asks its backend's capabilities, and never what kind it is.
"""

from deploy import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
