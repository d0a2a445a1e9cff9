# ruff: noqa: E501
"""What servers print, rebuilt: no recorded log.

The messages are those of TensorFlow Serving's sources (of several releases) and of logs that people have published, with
names of our own; file lines and times are made up, and hardware messages are examples of their kind. The sentences after
"Failed to start server" are as the conformance recordings of 2.20.0 have them.
"""

from __future__ import annotations

STAMP = "2025-08-14 09:12:33.120393: "

LOADING = f"""\
{STAMP}I tensorflow_serving/model_servers/server.cc:77] Building single TensorFlow model file config:  model_name: m model_base_path: /models/m
{STAMP}I tensorflow_serving/model_servers/server_core.cc:474] Adding/updating models.
{STAMP}I tensorflow_serving/model_servers/server_core.cc:603]  (Re-)adding model: m
{STAMP}I tensorflow_serving/core/basic_manager.cc:740] Successfully reserved resources to load servable {{name: m version: 1}}
{STAMP}I tensorflow_serving/core/loader_harness.cc:68] Approving load for servable version {{name: m version: 1}}
{STAMP}I tensorflow_serving/core/loader_harness.cc:76] Loading servable version {{name: m version: 1}}
{STAMP}I external/org_tensorflow/tensorflow/cc/saved_model/reader.cc:83] Reading SavedModel from: /models/m/1
{STAMP}I external/org_tensorflow/tensorflow/cc/saved_model/reader.cc:52] Reading meta graph with tags {{ serve }}
{STAMP}I external/org_tensorflow/tensorflow/cc/saved_model/reader.cc:147] Reading SavedModel debug info (if present) from: /models/m/1
{STAMP}I external/org_tensorflow/tensorflow/core/platform/cpu_feature_guard.cc:210] This TensorFlow binary is optimized to use available CPU instructions in performance-critical operations.
To enable the following instructions: AVX2 AVX512F FMA, in other operations, rebuild TensorFlow with the appropriate compiler flags.
{STAMP}I external/org_tensorflow/tensorflow/compiler/mlir/mlir_graph_optimization_pass.cc:425] MLIR V1 optimization pass is not enabled
{STAMP}I external/org_tensorflow/tensorflow/cc/saved_model/loader.cc:236] Restoring SavedModel bundle.
{STAMP}I external/org_tensorflow/tensorflow/cc/saved_model/loader.cc:220] Running initialization op on SavedModel bundle at path: /models/m/1
{STAMP}I external/org_tensorflow/tensorflow/cc/saved_model/loader.cc:466] SavedModel load for tags {{ serve }}; Status: success: OK. Took 48543 microseconds.
"""

NO_WARM_UP = f"{STAMP}I tensorflow_serving/servables/tensorflow/saved_model_warmup_util.cc:80] No warmup data file found " \
             "at /models/m/1/assets.extra/tf_serving_warmup_requests\n"

WARM_UP_BEGUN = f"{STAMP}I tensorflow_serving/servables/tensorflow/saved_model_warmup_util.cc:90] Starting to read warmup " \
                "data for model at /models/m/1/assets.extra/tf_serving_warmup_requests with model-warmup-options \n"

WARM_UP = WARM_UP_BEGUN + \
    f"{STAMP}I tensorflow_serving/servables/tensorflow/saved_model_warmup_util.cc:230] Finished reading warmup data for " \
    "model at /models/m/1/assets.extra/tf_serving_warmup_requests. Number of warmup records read: 3. Elapsed time " \
    "(microseconds): 7712.\n"

SERVING = f"""\
{STAMP}I tensorflow_serving/core/loader_harness.cc:96] Successfully loaded servable version {{name: m version: 1}}
{STAMP}I tensorflow_serving/model_servers/server_core.cc:495] Finished adding/updating models
{STAMP}I tensorflow_serving/model_servers/server.cc:117] Using InsecureServerCredentials
{STAMP}I tensorflow_serving/model_servers/server.cc:383] Profiler service is enabled
{STAMP}I tensorflow_serving/model_servers/server.cc:423] Running gRPC ModelServer at 0.0.0.0:8500 ...
[warn] getaddrinfo: address family for nodename not supported
{STAMP}I tensorflow_serving/model_servers/server.cc:444] Exporting HTTP/REST API at:localhost:8501 ...
[evhttp_server.cc : 261] NET_LOG: Entering the event loop ...
"""

# An image for GPUs on a machine without one
NO_GPU = f"""\
{STAMP}E external/local_xla/xla/stream_executor/cuda/cuda_fft.cc:467] Unable to register cuFFT factory: Attempting to register factory for plugin cuFFT when one has already been registered
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
E0000 00:00:1755162753.120393       1 cuda_dnn.cc:8579] Unable to register cuDNN factory: Attempting to register factory for plugin cuDNN when one has already been registered
E0000 00:00:1755162753.127001       1 cuda_blas.cc:1407] Unable to register cuBLAS factory: Attempting to register factory for plugin cuBLAS when one has already been registered
W0000 00:00:1755162753.142000       1 computation_placer.cc:177] computation placer already registered. Please check linkage and avoid linking the same target more than once.
{STAMP}I external/local_xla/xla/tsl/cuda/cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU will not be used.
{STAMP}W external/local_xla/xla/stream_executor/gpu/asm_compiler.cc:109] Couldn't get ptxas version : FAILED_PRECONDITION: Couldn't run ptxas --version; Permission denied
{STAMP}E external/local_xla/xla/stream_executor/cuda/cuda_platform.cc:51] failed call to cuInit: INTERNAL: CUDA error: Failed call to cuInit: UNKNOWN ERROR (303)
{STAMP}I external/local_xla/xla/stream_executor/cuda/cuda_executor.cc:1015] successful NUMA node read from SysFS had negative value (-1), but there must be at least one NUMA node, so returning NUMA node zero.
{STAMP}W tensorflow/core/common_runtime/gpu/gpu_device.cc:2344] Cannot dlopen some GPU libraries. Please make sure the missing libraries mentioned above are installed properly if you would like to use GPU.
"""

MEMORY_HINT = f"{STAMP}W external/local_tsl/tsl/framework/cpu_allocator_impl.cc:83] Allocation of 154140672 exceeds 10% of " \
              "free system memory.\n"

BATCHING = f"{STAMP}I tensorflow_serving/servables/tensorflow/bundle_factory_util.cc:182] Wrapping session to perform " \
           "batch processing\n"

LATE = f"""\
{STAMP}W tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc:297] No versions of servable m found under base path /models/m. Did you forget to name your leaf directory as a number (eg. '/1/')?
{STAMP}E tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc:414] FileSystemStoragePathSource encountered a filesystem access error: Could not find base path /models/m for servable m with error NOT_FOUND: /models/m not found
"""

RETRIED = f"""\
{STAMP}I external/org_tensorflow/tensorflow/cc/saved_model/loader.cc:466] SavedModel load for tags {{ serve }}; Status: fail: NOT_FOUND: Op type not registered 'SentencepieceOp' in binary running on 0d2b. Make sure the Op and Kernel are registered in the binary running in this process. Note that if you are loading a saved graph which used ops from tf.contrib (e.g. `tf.contrib.resampler`), accessing should be done before importing the graph, as contrib ops are lazily registered when the module is first accessed.. Took 1200 microseconds.
{STAMP}E tensorflow_serving/util/retrier.cc:46] Loading servable: {{name: m version: 1}} failed: NOT_FOUND: Op type not registered 'SentencepieceOp' in binary running on 0d2b. Make sure the Op and Kernel are registered in the binary running in this process. Note that if you are loading a saved graph which used ops from tf.contrib (e.g. `tf.contrib.resampler`), accessing should be done before importing the graph, as contrib ops are lazily registered when the module is first accessed.
\t [[{{{{node sentencepiece}}}}]]
"""

EXHAUSTED = f"{STAMP}I tensorflow_serving/util/retrier.cc:62] Retrying of Loading servable: {{name: m version: 1}} exhausted " \
            "max_num_retries: 0\n"

ENDED = "Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available: {{{name: m version: 1} due to " \
        "error: NOT_FOUND: Op type not registered 'SentencepieceOp' in binary running on 0d2b. Make sure the Op and Kernel " \
        "are registered in the binary running in this process. Note that if you are loading a saved graph which used " \
        "ops from tf.contrib (e.g. `tf.contrib.resampler`), accessing should be done before importing the graph, as " \
        "contrib ops are lazily registered when the module is first accessed.\n\t [[{{node sentencepiece}}]]}, }\n"

EMBEDDED = """\
2026-11-28 13:28:11,600: I Successfully loaded servable version {name: m version: 1}
2026-11-28 13:28:11,620: I Running gRPC ModelServer at 0.0.0.0:8500 ...
2026-11-28 13:28:11,629: I Exporting HTTP/REST API at:localhost:8501 ...
"""

# Bad requests, as a server that runs well logs them
REFUSED = f"""\
{STAMP}W external/org_tensorflow/tensorflow/core/framework/op_kernel.cc:1857] OP_REQUIRES failed at decode_image_op.cc:348 : DATA_LOSS: a picture was cut off
\t [[{{{{node decode}}}}]]
{STAMP}W external/org_tensorflow/tensorflow/core/framework/op_kernel.cc:1857] OP_REQUIRES failed at matmul_op_impl.h:731 : RESOURCE_EXHAUSTED: OOM when allocating tensor with shape[99999] and type float
E0302 08:00:05.123456789      35 ssl_transport_security.cc:1653] Handshake failed with fatal error SSL_ERROR_SSL: error:100000f7:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER.
"""

HEALTHY = {
    "plain": LOADING + NO_WARM_UP + SERVING,
    "warm-up": LOADING + WARM_UP + SERVING,
    "batching, warm-up": LOADING.replace("{ serve }", "{ serve }") + BATCHING + WARM_UP + SERVING,
    "a GPU image without a GPU": NO_GPU + LOADING + MEMORY_HINT + NO_WARM_UP + SERVING,
    "still loading, a GPU image without a GPU": NO_GPU + LOADING + WARM_UP,
    "its model came late": LATE + LOADING + NO_WARM_UP + SERVING,
    "a load that worked at the second try": LOADING + RETRIED + LOADING + NO_WARM_UP + SERVING,
    "restarted by the engine": LOADING + RETRIED + EXHAUSTED + ENDED + LOADING + NO_WARM_UP + SERVING,
    "of docker compose": "".join(f"serving-1  | {line}\n" for line in (LOADING + WARM_UP + SERVING).splitlines()),
    "with time stamps": "".join(f"2025-08-14T09:12:33.120393412Z {line}\n"
                                for line in (LOADING + WARM_UP + SERVING).splitlines()),
    "a later version, without warm-up": LOADING + WARM_UP + SERVING + (LOADING + NO_WARM_UP).replace("m/1", "m/2"),
    "embedded": EMBEDDED,
    "nothing printed (TF_CPP_MIN_LOG_LEVEL=3)": "[warn] getaddrinfo: address family for nodename not supported\n"
                                                "[evhttp_server.cc : 261] NET_LOG: Entering the event loop ...\n",
}
