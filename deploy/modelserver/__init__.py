"""A model server that behaves like tensorflow_model_server: same flags, config files, REST and gRPC APIs.

    python -m deploy.modelserver --model_name=half --model_base_path=/models/half --port=8500 --rest_api_port=8501

How it hangs together (arrows: calls):

    main -> wire.flags                       what was asked for
         -> core  -> config, labels           which models, by which rules; reloads
                  -> source -> catalog        what is on disk -> which versions should be loaded (pure, no IO)
                  -> lifecycle -> loader        does what the catalog decided, in threads
         -> grpc_api on rpc/, rest/           the two protocols, both on the same operations:
                  -> predict, examples, info  a request on one loaded version

Models run in `deploy.engine`; with the echo loader nothing of TensorFlow is needed.

    batching         collects calls into batches, with the real server's parameters and rules
    calls            what both protocols offer, each call from request to reply message
    catalog          which versions should be loaded, which are, and what to do next
    config           ModelServerConfig
    core             the server apart from its protocols
    echo             a loader without TensorFlow
    examples         Classify, Regress and MultiInference
    grpc_api         what the gRPC API answers: functions of messages as functions of bytes, and the health
                     service
    healthcheck      `python -m deploy.modelserver.healthcheck`
    info             GetModelStatus and GetModelMetadata
    inline           which requests an event loop answers by itself, and how far
    lifecycle        does what the catalog decides: loads and unloads versions in threads, and hands out the
                     loaded ones
    listen           opens the two ports: which operation answers which call
    loader           what turns a version's directory into something that answers
    loaders          the loader that the flags ask for
    loops            the event loops of the two protocols, and how many connections they may have
    main             the process: flags, start, signals, exit codes
    merging          the tensors of a batch: those of its calls put together, and the results handed out again
    metrics          counters and histograms under TF Serving's names, and their Prometheus page
    patience         how long the call that a thread is answering may still take
    plans            a signature of a loaded version with everything that a request needs looked up once
    platform_config  --platform_config_file: how models are loaded and batched, in one file in place of the flags
                     for it
    pool             the threads of the gRPC server: a limited number, and calls that none of them gets to are
                     refused
    predict          Predict: named tensors in, named tensors out
    resources        what the real server does before it loads a version
    rest             the REST API
    rpc              the gRPC server: deploy.net.http2 on an event loop
    server           puts the parts together: loader, core, and the two protocols
    source           looks at base paths and says which versions every model should have
    status           the server's answers that aren't results
    tensors          arrays as the serialized TensorProtos of a reply
    tflite           versions with a model.tflite (--prefer_tflite_model)
    warmup           replays a version's recorded requests before it becomes available, and counts loads
"""
