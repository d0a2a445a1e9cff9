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
"""
