"""A model server that behaves like tensorflow_model_server: same flags, config files, REST and gRPC APIs.

    python -m deploy.modelserver --model_name=half --model_base_path=/models/half --port=8500 --rest_api_port=8501

How it hangs together (arrows: calls):

    main -> wire.flags                         what was asked for
         -> server -> core -> config            which models, by which rules; labels, reloads
                           -> source -> catalog what is on disk -> which versions should be loaded (pure, no IO)
                           -> lifecycle         does what the catalog decided, in threads
                                -> warmup -> batching -> loader      a directory -> something that answers
                   -> grpc_api on grpc_server, rest/                the two protocols, both on the same operations:
                        -> predict, examples on a servable          a request on one loaded version

Models run in `deploy.engine`; with the echo loader nothing of TensorFlow is needed.

    batching     collects calls into batches, with the real server's parameters and rules
    catalog      which versions should be loaded, which are, and what to do next
    config       configuration files, read and checked in the real server's order
    core         the server apart from its protocols: models, reloads, labels, versions and what is known of them
    echo         a loader without TensorFlow
    examples     Classify, Regress and MultiInference
    execution    which steps of a request an event loop takes by itself, and how long a thread may take over the rest
    grpc_api     the gRPC API: each call, from the bytes of a request to those of its reply
    grpc_server  the gRPC server: ports, threads, deadlines
    healthcheck  `python -m deploy.modelserver.healthcheck`
    lifecycle    does what the catalog decides: loads and unloads versions in threads, and hands out the loaded ones
    listening    what the two ports listen with: event loops, sockets, TLS, and how many connections there may be
    loader       what turns a version's directory into something that answers: TensorFlow's and LiteRT's loader
    main         the process: flags, start, signals, exit codes
    merging      the tensors of a batch: those of its calls put together, and the results handed out again
    metrics      counters and histograms under TF Serving's names, and their Prometheus page
    predict      Predict: named tensors in, named tensors out
    rest         the REST API
    servable     a loaded version as requests take it: its signatures looked up once, and how many requests hold it
    server       puts the parts together as the flags say: loader, core, the two ports
    source       which versions every model should have, as the base paths say: looked at over and over
    status       the server's answers that aren't results
    warmup       what a version goes through before it becomes available: its files are looked at, its recorded
                 requests replayed
"""
