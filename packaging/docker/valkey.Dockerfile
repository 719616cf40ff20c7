# Valkey with the lock module, from the package that `make package` made:
#   docker build --file packaging/docker/valkey.Dockerfile --tag valkey-lock target/package
#   docker run valkey-lock
# Options of the server come after the whole command: docker run valkey-lock valkey-server --loadmodule … --maxmemory 1gb
FROM valkey/valkey:9.1
RUN --mount=type=bind,target=/packages \
    dpkg --install /packages/redis-lock_*_"$(dpkg --print-architecture)".deb
CMD ["valkey-server", "--loadmodule", "/usr/lib/redis/modules/libredis_lock.so"]
