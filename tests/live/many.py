"""The suite with several replicas of each service, on one Redis or on a Redis Cluster."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import httpx

from services.server.app import TENANT_HEADER, TOKEN_HEADER
from tests.conftest import free_port
from tests.live.suite import SERVICES, Suite
from tests.redis_cluster import ClusterServers


class ManySuite(Suite):
    """Processes are named `<service>-<number>`. Each gateway knows all replicas by their URLs."""

    def __init__(
        self,
        home: Path,
        settings: Mapping[str, str] | None = None,
        *,
        replicas: int = 2,
        cluster: bool = False,
        silence_ms: int = 60_000,
    ) -> None:
        """`silence_ms` after which the cluster's nodes take each other as failed; a busy machine is slow."""
        super().__init__(home, settings)
        self.servers = ClusterServers(home, silence_ms=silence_ms) if cluster else None
        self.names = [f"{service}-{number}" for service in SERVICES for number in range(replicas)]
        self.ports = {name: free_port() for name in ("redis", *self.names)}
        self.redis_url = self.servers.url if self.servers else f"redis://127.0.0.1:{self.ports['redis']}/0"
        self.redis_urls = self.servers.node_urls if self.servers else [self.redis_url]
        self.gateways = self.urls("gateway")
        self.url = self.gateways[0]
        self.environment |= {
            "ALIGNX_REDIS__URL": self.redis_url,
            "ALIGNX_REDIS__CLUSTER": str(cluster).lower(),
            "ALIGNX_GATEWAY__PREFERENCE_URL": ",".join(self.urls("preference")),
            "ALIGNX_GATEWAY__RESPONSE_URL": ",".join(self.urls("response")),
        }

    def urls(self, service: str) -> list[str]:
        return [f"http://127.0.0.1:{self.ports[name]}" for name in self.names if name.startswith(service)]

    def up(self) -> Self:
        if self.servers:
            self.servers.up()
        else:
            self.start("redis")
        for name in self.names:
            self.start(name)
        self.wait_ready(self.names)
        return self

    def down(self) -> None:
        super().down()
        if self.servers:
            self.servers.down()

    def inside(self, url: str, tenant: str) -> httpx.Client:
        """A client of one replica, as the gateway is one."""
        headers = {TOKEN_HEADER: self.environment["ALIGNX_INTERNAL_TOKEN"], TENANT_HEADER: tenant}
        return httpx.Client(base_url=url, headers=headers, timeout=60)

    @contextmanager
    def doors(self, tenant: str, **fields: object) -> Iterator[list[httpx.Client]]:
        """A client of each gateway, all with the same key."""
        headers = {"Authorization": f"Bearer {self.new_key(tenant, **fields)}"}
        with ExitStack() as stack:
            clients = [httpx.Client(base_url=url, headers=headers, timeout=60) for url in self.gateways]
            yield [stack.enter_context(client) for client in clients]
