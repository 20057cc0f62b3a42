# Training and evaluation, offline: `python -m training.sft …`, `python -m evaluation …` and the like.
#
#     docker build -f docker/training.Dockerfile -t alignx/training .
#     docker run --rm --gpus all -v "$PWD/runs:/runs" alignx/training -m training.sft --help
#
# BASE_IMAGE: a glibc image with Python 3.11, its venv module and pip. What torch is for, a GPU or a
# CPU, is decided by the index or the folder of wheels that it comes from.
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_TRUSTED_HOST
WORKDIR /opt/training
COPY docker/torch.txt docker/training.lock ./
# As in the Makefile: torch first and with what belongs to it, the rest locked.
RUN python3 -m venv --without-pip /opt/training \
    && python3 -m pip --python /opt/training/bin/python install --no-cache-dir -r torch.txt
RUN python3 -m pip --python /opt/training/bin/python install --no-cache-dir --no-deps --require-hashes \
        -r training.lock
WORKDIR /opt/training/app
COPY alignx alignx
COPY services services
COPY training training
COPY evaluation evaluation
RUN /opt/training/bin/python -m compileall -q --invalidation-mode unchecked-hash . && chmod -R a+rX .
# Runs write into the folder that is mounted here; caches go below /tmp.
RUN mkdir /runs && chown 10001:10001 /runs
ENV PATH=/opt/training/bin:$PATH PYTHONPATH=/opt/training/app HOME=/tmp PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /runs
VOLUME /runs
STOPSIGNAL SIGTERM
ENTRYPOINT ["python"]
CMD ["-m", "training.sft", "--help"]
