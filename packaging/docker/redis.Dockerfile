# Redis with the lock module, from the package that `make package` made:
#   docker build --file packaging/docker/redis.Dockerfile --tag redis-lock target/package
#   docker run redis-lock
# Options of the server come after the whole command: docker run redis-lock redis-server --loadmodule … --maxmemory 1gb
FROM redis:8.2
RUN --mount=type=bind,target=/packages \
    dpkg --install /packages/redis-lock_*_"$(dpkg --print-architecture)".deb
CMD ["redis-server", "--loadmodule", "/usr/lib/redis/modules/libredis_lock.so"]
