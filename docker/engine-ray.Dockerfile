# vLLM's image with Ray, for a model over several nodes (docker/kubernetes/components/ray). The stock
# image is without it since 0.19.
#
#     docker build -f docker/engine-ray.Dockerfile -t alignx/engine-ray docker
ARG BASE_IMAGE=vllm/vllm-openai:v0.33.0
FROM ${BASE_IMAGE}
ARG RAY_VERSION=2.48.0
RUN python3 -m pip install --no-cache-dir "ray[cgraph]>=${RAY_VERSION}"
USER 10001:10001
