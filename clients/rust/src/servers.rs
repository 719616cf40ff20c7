//! Which servers: one, the one that sentinels name, or a cluster.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Client, Cmd, ProtocolVersion, PushInfo, RedisFuture, RedisResult, Value};
use tokio::sync::mpsc::UnboundedSender;

use crate::names::Names;

#[cfg(feature = "sentinel")]
use watched::Watched;

/// What [`Locks::new`](crate::Locks::new) makes its connections from: a client of redis-rs for one server, for a cluster
/// (feature `cluster`), or for the server that sentinels name (feature `sentinel`); or [another way](Servers::by).
pub struct Servers(Way);

enum Way {
    One(Box<Client>),
    #[cfg(feature = "sentinel")]
    Sentinel(Box<Watched>),
    #[cfg(feature = "cluster")]
    Cluster(Box<redis::cluster::ClusterClient>),
    Own(Connect),
}

type Connect = Box<dyn Fn() -> RedisFuture<'static, Sender> + Send + Sync>;
type Sender = Arc<dyn Fn(Cmd) -> RedisFuture<'static, Value> + Send + Sync>;

impl From<Client> for Servers {
    fn from(client: Client) -> Self {
        Self(Way::One(Box::new(client)))
    }
}

#[cfg(feature = "sentinel")]
impl From<redis::sentinel::SentinelClient> for Servers {
    fn from(client: redis::sentinel::SentinelClient) -> Self {
        Self(Way::Sentinel(Box::new(Watched::new(client))))
    }
}

#[cfg(feature = "cluster")]
impl From<redis::cluster::ClusterClient> for Servers {
    fn from(client: redis::cluster::ClusterClient) -> Self {
        Self(Way::Cluster(Box::new(client)))
    }
}

impl Servers {
    /// By connections of the caller's own making: this is called each time when one more is needed, and brings what sends a
    /// request over it, however long the reply takes. Whoever watches hears of a loss by the renewals.
    pub fn by<C, S, R>(connect: impl Fn() -> C + Send + Sync + 'static) -> Self
    where
        C: Future<Output = RedisResult<S>> + Send + 'static,
        S: Fn(Cmd) -> R + Send + Sync + 'static,
        R: Future<Output = RedisResult<Value>> + Send + 'static,
    {
        Self(Way::Own(Box::new(move || {
            let connecting = connect();
            Box::pin(async move {
                let send = connecting.await?;
                Ok(Arc::new(move |cmd| -> RedisFuture<'static, Value> { Box::pin(send(cmd)) }) as Sender)
            })
        })))
    }

    /// A new connection. Each request has a limit of its own, as the default of the client is shorter than a wait.
    pub(crate) async fn connect(&self, limit: Duration) -> RedisResult<Connection> {
        let config =
            AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(Some(limit));
        self.open(limit, config, Client::clone).await
    }

    /// The same, and what the server says unasked goes this way: not for a cluster, where each node would have to tell.
    pub(crate) async fn listen(
        &self,
        limit: Duration,
        tell: UnboundedSender<PushInfo>,
    ) -> RedisResult<Connection> {
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_push_sender(tell);
        let in_resp3 = |client: &Client| {
            let info = client.get_connection_info().clone();
            let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
            Client::open(info.set_redis_settings(settings)).unwrap_or_else(|_| client.clone())
        };
        self.open(limit, config, in_resp3).await
    }

    /// A connection that blocks the thread of its user, for so long at most; only to one server that nobody replaces.
    pub(crate) fn connect_here(&self, limit: Duration) -> Option<redis::Connection> {
        let Way::One(client) = &self.0 else { return None };
        let connection = client.get_connection_with_timeout(limit).ok()?;
        connection.set_read_timeout(Some(limit)).ok()?;
        connection.set_write_timeout(Some(limit)).ok()?;
        Some(connection)
    }

    pub(crate) fn can_tell(&self) -> bool {
        !self.are_cluster() && !matches!(self.0, Way::Own(_))
    }

    /// Whose client sends requests again by itself.
    pub(crate) fn are_cluster(&self) -> bool {
        match &self.0 {
            #[cfg(feature = "cluster")]
            Way::Cluster(_) => true,
            _ => false,
        }
    }

    async fn open(
        &self,
        _limit: Duration,
        config: AsyncConnectionConfig,
        like: impl Fn(&Client) -> Client,
    ) -> RedisResult<Connection> {
        match &self.0 {
            Way::One(client) => {
                let connection = like(client).get_multiplexed_async_connection_with_config(&config).await?;
                Ok(Connection::One(connection, None))
            }
            #[cfg(feature = "sentinel")]
            Way::Sentinel(watched) => {
                let client = like(&watched.primary().await?);
                let address = client.get_connection_info().addr().clone();
                let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
                Ok(Connection::One(connection, Some(Box::new(address))))
            }
            #[cfg(feature = "cluster")]
            Way::Cluster(client) => {
                let config = redis::cluster::ClusterConfig::new().set_connection_timeout(_limit);
                client.get_async_connection_with_config(config).await.map(Connection::Cluster)
            }
            Way::Own(connect) => connect().await.map(Connection::Own),
        }
    }

    /// Fails if the connection leads to an old primary, that another has replaced.
    pub(crate) async fn check(&self, connection: &Connection) -> RedisResult<()> {
        match (&self.0, connection) {
            #[cfg(feature = "sentinel")]
            (Way::Sentinel(watched), Connection::One(_, Some(address))) => watched.check(address).await,
            _ => Ok(()),
        }
    }
}

type Named = Option<Box<redis::ConnectionAddr>>;

#[derive(Clone)]
pub(crate) enum Connection {
    /// And the address of the primary, where sentinels have named it.
    One(MultiplexedConnection, Named),
    #[cfg(feature = "cluster")]
    Cluster(redis::cluster_async::ClusterConnection),
    Own(Sender),
}

impl Connection {
    /// Whether its server may have been replaced: see [`Servers::check`].
    pub(crate) fn is_named(&self) -> bool {
        matches!(self, Self::One(_, Some(_)))
    }

    /// Sends a request to the server that has this key.
    pub(crate) async fn send(&mut self, cmd: &Cmd, _key: &[u8]) -> RedisResult<Value> {
        let reply = match self {
            Self::One(connection, _) => connection.req_packed_command(cmd).await,
            #[cfg(feature = "cluster")]
            Self::Cluster(connection) => {
                use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
                let route = SingleNodeRoutingInfo::SpecificNode(Route::with_key(_key, SlotAddr::Master));
                Box::pin(connection.route_command(cmd.clone(), RoutingInfo::SingleNode(route))).await
            }
            Self::Own(send) => send(cmd.clone()).await,
        };
        reply.and_then(value)
    }

    /// Sends requests in one piece; in a cluster, or where we do not know, each goes its own way.
    pub(crate) async fn send_all(
        &mut self,
        requests: &[(Cmd, &Names)],
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        let Self::One(connection, _) = self else {
            let send = |(cmd, names): &(Cmd, &Names)| {
                let (mut connection, cmd, key) = (self.clone(), cmd.clone(), names.key().to_vec());
                async move { connection.send(&cmd, &key).await }
            };
            return Ok(futures_util::future::join_all(requests.iter().map(send)).await);
        };
        let mut pipe = redis::Pipeline::with_capacity(requests.len());
        for (cmd, _) in requests {
            pipe.add_command(cmd.clone());
        }
        let replies = connection.req_packed_commands(&pipe, 0, requests.len()).await?;
        Ok(replies.into_iter().map(value).collect())
    }
}

/// A reply of the server, which may be an error.
pub(crate) fn value(reply: Value) -> RedisResult<Value> {
    match reply {
        Value::ServerError(error) => Err(error.into()),
        value => Ok(value),
    }
}

#[cfg(feature = "sentinel")]
mod watched {
    use std::io;
    use std::time::{Duration, Instant};

    use redis::sentinel::SentinelClient;
    use redis::{Client, ConnectionAddr, RedisResult};
    use tokio::sync::Mutex;
    use tokio::time::timeout;

    /// How long sentinels may take to answer, and for how long they are believed.
    const ANSWER: Duration = Duration::from_secs(2); // one that is silent costs redis-rs the first
    const FRESH: Duration = Duration::from_millis(500);

    /// A primary that sentinels name. For some seconds after a failover the old one goes on as if nothing were, and only they
    /// know.
    pub(super) struct Watched(Mutex<Named>);

    struct Named {
        client: SentinelClient,
        asked: Option<Instant>,
        address: Option<ConnectionAddr>,
    }

    impl Watched {
        pub(super) fn new(client: SentinelClient) -> Self {
            Self(Mutex::new(Named { client, asked: None, address: None }))
        }

        pub(super) async fn primary(&self) -> RedisResult<Client> {
            self.0.lock().await.ask().await
        }

        /// Whether this is still its address. When no sentinel answers, things stay as they are.
        pub(super) async fn check(&self, address: &ConnectionAddr) -> RedisResult<()> {
            let mut named = self.0.lock().await;
            if named.asked.is_none_or(|at| at.elapsed() >= FRESH) {
                let _ = timeout(ANSWER, named.ask()).await;
            }
            if named.address.as_ref() == Some(address) {
                Ok(())
            } else {
                Err(io::Error::new(io::ErrorKind::NotConnected, "sentinels name another primary").into())
            }
        }
    }

    impl Named {
        async fn ask(&mut self) -> RedisResult<Client> {
            self.asked = Some(Instant::now()); // before the answer: a caller who goes away has asked, too
            let client = self.client.async_get_client().await?;
            self.address = Some(client.get_connection_info().addr().clone());
            Ok(client)
        }
    }
}
