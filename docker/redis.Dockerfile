# Redis with the durability that the suite promises: what was acknowledged is on disk.
#
#     docker build -f docker/redis.Dockerfile -t alignx/redis .
#
# REDIS_IMAGE: an image with redis-server and its user `redis`, such as the official one.
ARG REDIS_IMAGE=redis:7.4-bookworm
FROM ${REDIS_IMAGE}
RUN mkdir -p /data && chown redis:redis /data
COPY docker/redis.conf /etc/alignx-redis.conf
RUN chmod a+r /etc/alignx-redis.conf
USER redis
WORKDIR /data
VOLUME /data
EXPOSE 6379
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=5 CMD ["redis-cli", "ping"]
ENTRYPOINT ["redis-server", "/etc/alignx-redis.conf"]
