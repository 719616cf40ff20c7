//! The way to the server that has a key: one server, the primary that Sentinel names, or a node of a cluster.

use std::env::VarError;
use std::io::ErrorKind::{ConnectionRefused, InvalidData, TimedOut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use fencelock::{is_passing, Moment, Servers};
use futures_util::future::select_ok;
use redis::aio::MultiplexedConnection;
use redis::{
    cmd, AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo, Pipeline, RedisError, TlsCertificates, Value,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::timeout;

use crate::exit::{Exit, Failure, OrSystem, Outcome};

/// How long a connection, or a reply that nobody waits for in line, may take.
pub(crate) const REPLY: Duration = Duration::from_secs(5);
/// How long a Sentinel may take to answer.
const SENTINEL: Duration = Duration::from_secs(1);
/// For how long it is believed.
const FRESH: Duration = Duration::from_millis(500);
/// How often whoever stays connected looks whether other servers are primaries by now: in a planned failover of a cluster
/// the old one keeps its connections, and answers.
pub(crate) const ROUND: Duration = Duration::from_secs(5);
/// How many redirections a request may take in a cluster.
const HOPS: usize = 5;

#[derive(Args, Clone, Debug)]
pub(crate) struct Address {
    /// The server: redis://[user[:password]@]host[:port][/db], rediss:// for TLS, unix:///path,
    /// redis+sentinel://host:port,host:port/name[/db], redis+cluster://host:port,host:port
    /// [env: REDIS_URL] [default: redis://127.0.0.1:6379]
    // Not by clap's `env`: what comes from there stands in each "Usage:" as if it had to be typed.
    #[arg(long, global = true, value_name = "URL", help_heading = "Server")]
    pub url: Option<String>,
    /// Certificates (PEM) to trust with rediss:// in place of those of the system
    #[arg(long, global = true, value_name = "FILE", help_heading = "Server")]
    pub cacert: Option<std::path::PathBuf>,
    /// A certificate (PEM) to show to the server
    #[arg(long, global = true, value_name = "FILE", requires = "cert_key", help_heading = "Server")]
    pub cert: Option<std::path::PathBuf>,
    /// The private key (PEM) that goes with --cert
    #[arg(long = "cert-key", global = true, value_name = "FILE", requires = "cert", help_heading = "Server")]
    pub cert_key: Option<std::path::PathBuf>,
}

/// Where to look for a server, and how to greet it.
#[derive(Clone)]
pub(crate) struct Server {
    seeds: Vec<ConnectionInfo>,
    /// The name under which Sentinel knows the primary; the seeds are Sentinels then.
    service: Option<String>,
    certificates: Option<TlsCertificates>,
}

impl Address {
    pub(crate) fn server(&self) -> Outcome<Server> {
        let wrong = |why: &str| Failure::usage(format!("the URL of the server cannot be used: {why}"));
        let url = match (&self.url, std::env::var("REDIS_URL")) {
            (Some(url), _) => url.clone(),
            (None, Ok(url)) => url,
            (None, Err(VarError::NotPresent)) => "redis://127.0.0.1:6379".to_owned(),
            (None, Err(VarError::NotUnicode(_))) => return Err(wrong("REDIS_URL is no UTF-8")),
        };
        if url.is_empty() {
            return Err(wrong("it is empty; unset REDIS_URL for redis://127.0.0.1:6379, or say --url"));
        }
        if url.contains('#') {
            return Err(wrong("write a # in it as %23"));
        }
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| wrong("it has no scheme such as redis://"))?;
        let (scheme, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        if !["redis", "rediss", "unix"].contains(&scheme) {
            return Err(wrong(&format!(
                "it begins with {scheme}:// and not with redis://, rediss:// or unix://"
            )));
        }
        let (hosts, path) = match (scheme, rest.split_once('/')) {
            ("redis" | "rediss", Some((hosts, path))) => (hosts, path),
            _ => (rest, ""),
        };
        let (service, path) = match kind {
            "sentinel" => {
                let (name, db) = path.split_once('/').unwrap_or((path, ""));
                if name.is_empty() {
                    return Err(wrong("the name of the primary is missing after the Sentinels: …/name"));
                }
                (Some(name.to_owned()), db)
            }
            "" | "cluster" => (None, path),
            _ => return Err(wrong("after + stands sentinel or cluster")),
        };
        if scheme != "unix"
            && !path.is_empty()
            && path.split('?').next().is_none_or(|db| db.parse::<u32>().is_err())
        {
            return Err(wrong(
                "behind the last / stands the number of a database; write a / in a password as %2F",
            ));
        }
        let (login, hosts) = hosts.rsplit_once('@').map_or(("", hosts), |(login, hosts)| (login, hosts));
        let at = if login.is_empty() { "" } else { "@" };
        let port = if service.is_some() { ":26379" } else { "" };
        let seeds = hosts.split(',').map(|host| {
            let bare = host.rsplit(']').next().unwrap_or(host);
            let port = if bare.contains(':') || scheme.contains("unix") { "" } else { port };
            let path = if path.is_empty() { String::new() } else { format!("/{path}") };
            format!("{scheme}://{login}{at}{host}{port}{path}").into_connection_info().map_err(|_| {
                wrong("it is not user:password@host:port; write @ : / in a password as %40 %3A %2F")
            })
        });
        Ok(Server { seeds: seeds.collect::<Outcome<_>>()?, service, certificates: self.certificates()? })
    }

    fn certificates(&self) -> Outcome<Option<TlsCertificates>> {
        let read =
            |path: &std::path::PathBuf| std::fs::read(path).or_system(&format!("read {}", path.display()));
        let certificate = |path: &std::path::PathBuf| {
            let bytes = read(path)?;
            let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
            match found {
                Ok(found) if !found.is_empty() => Ok(bytes),
                _ => Err(Failure::usage(format!("{} holds no certificate in PEM form", path.display()))),
            }
        };
        let private_key = |path: &std::path::PathBuf| {
            let bytes = read(path)?;
            match PrivateKeyDer::from_pem_slice(&bytes) {
                Ok(_) => Ok(bytes),
                Err(_) => Err(Failure::usage(format!("{} holds no private key in PEM form", path.display()))),
            }
        };
        let root_cert = self.cacert.as_ref().map(certificate).transpose()?;
        let client_tls = match (&self.cert, &self.cert_key) {
            (Some(cert), Some(key)) => {
                Some(ClientTlsConfig { client_cert: certificate(cert)?, client_key: private_key(key)? })
            }
            _ => None,
        };
        Ok((root_cert.is_some() || client_tls.is_some()).then_some(TlsCertificates { client_tls, root_cert }))
    }
}

impl Server {
    fn client(&self, info: ConnectionInfo) -> Result<Client, RedisError> {
        match &self.certificates {
            Some(certificates) if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) => {
                Client::build_with_tls(info, certificates.clone())
            }
            _ => Client::open(info),
        }
    }

    async fn connect(&self, info: ConnectionInfo) -> Result<Link, RedisError> {
        let client = self.client(info)?;
        // Each request has a limit of its own; the default of the client is shorter than a wait.
        let config =
            AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(Some(REPLY));
        let connection = timeout(REPLY, client.get_multiplexed_async_connection_with_config(&config));
        let connection = connection.await.unwrap_or_else(|_| Err(no_reply()))?;
        Ok(Link { server: self.clone(), client, connection: Some(connection), named: None })
    }

    /// Connects to the primary; of a cluster to some node, and [`Link::ask`] goes on to the right one.
    pub(crate) async fn primary(&self) -> Result<Link, RedisError> {
        if self.service.is_some() {
            let mut link = self.connect(self.named().await?).await?;
            link.named = Some(Moment::now());
            return Ok(link);
        }
        let mut last = no_reply();
        for seed in &self.seeds {
            match self.connect(seed.clone()).await {
                Ok(link) => return Ok(link),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Asks all Sentinels where the primary is, and believes the first that knows: one that is silent keeps nobody waiting.
    async fn named(&self) -> Result<ConnectionInfo, RedisError> {
        let ask = async |sentinel| {
            let named = timeout(SENTINEL, self.named_by(sentinel)).await;
            named.unwrap_or_else(|_| Err(no_sentinel(&no_reply())))
        };
        select_ok(self.seeds.iter().map(|sentinel| Box::pin(ask(sentinel)))).await.map(|(named, _)| named)
    }

    /// [`Server::primary`], and where there is none a failure that says where we looked.
    pub(crate) async fn link(&self) -> Outcome<Link> {
        self.primary().await.map_err(|error| {
            let is_tls = self.seeds.iter().any(|seed| matches!(seed.addr(), ConnectionAddr::TcpTls { .. }));
            // No side knows what the other one waits for.
            let text = error.to_string();
            let hint = match is_tls {
                true if error.is_timeout() => "; rediss:// needs a port that speaks TLS",
                true if text.contains("KeyMismatch") => "; --cert-key is not the key of --cert",
                true if text.contains("not valid for name") => "",
                true if text.contains("invalid peer certificate") => {
                    "; --cacert names the certificate that vouches for the server"
                }
                true if text.contains("alert: CertificateRequired") => {
                    "; the server asks for a certificate: --cert and --cert-key"
                }
                true if text.contains("received fatal alert") => {
                    "; perhaps the server does not trust the certificate of --cert"
                }
                false if error.is_connection_dropped() && !error.is_connection_refusal() => {
                    "; a port that speaks TLS needs rediss://"
                }
                _ => "",
            };
            let Failure { exit, text } = self.located(&no_server(error));
            Failure::new(exit, text + hint)
        })
    }

    /// The same way for the library, which has this link first.
    pub(crate) fn ways(&self, first: Link) -> Servers {
        let (server, first) = (self.clone(), Mutex::new(Some(first)));
        Servers::by(move || {
            let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            let server = server.clone();
            async move {
                let link = match first {
                    Some(link) => link,
                    None => server.primary().await?,
                };
                let link = Arc::new(tokio::sync::Mutex::new(link));
                // The library limits the time.
                Ok(move |request| {
                    let link = Arc::clone(&link);
                    async move { link.lock().await.ask(&request, Duration::MAX).await }
                })
            }
        })
    }

    /// The same failure, with where we looked.
    pub(crate) fn located(&self, failure: &Failure) -> Failure {
        Failure::new(failure.exit, format!("{} ({})", failure.text, self.places()))
    }

    /// Asks one Sentinel. Most let anybody ask; where they do not, they take the same password.
    async fn named_by(&self, sentinel: &ConnectionInfo) -> Result<ConnectionInfo, RedisError> {
        let mut asking = cmd("SENTINEL");
        asking.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service);
        let settings = sentinel.redis_settings().clone();
        let stranger = sentinel.clone().set_redis_settings(redis::RedisConnectionInfo::default());
        let reply = match self.connect(stranger).await {
            Ok(mut link) => link.once(&asking, REPLY).await.map_err(|error| match error.detail() {
                Some(detail) if detail.starts_with("unknown command") => {
                    let text = format!("{} is no Sentinel", sentinel.addr());
                    std::io::Error::new(InvalidData, text).into()
                }
                _ => error,
            }),
            Err(error) => Err(no_sentinel(&error)),
        };
        let reply = match reply {
            Err(error) if error.code() == Some("NOAUTH") => {
                let known = sentinel.clone().set_redis_settings(settings.set_db(0));
                self.connect(known).await?.once(&asking, REPLY).await?
            }
            reply => reply?,
        };
        if reply == Value::Nil {
            let name = self.service.as_deref().unwrap_or_default();
            return Err(std::io::Error::new(
                InvalidData,
                format!("no Sentinel knows a primary named {name}"),
            )
            .into());
        }
        let (host, port): (String, u16) = redis::from_redis_value(reply)?;
        Ok(moved_to(sentinel, host, port))
    }

    /// Connects to another server with the same greeting as this one: a replica of it.
    pub(crate) async fn beside(&self, link: &Link, host: &str, port: u16) -> Result<Link, RedisError> {
        self.connect(moved_to(link.client.get_connection_info(), host.to_owned(), port)).await
    }

    /// Connects to every primary: one, or all of a cluster.
    pub(crate) async fn nodes(&self) -> Outcome<Vec<Link>> {
        let nodes = self.each_node().await?.into_iter();
        nodes.map(|(_, node)| node.map_err(no_server)).collect()
    }

    /// The same, where some of a cluster may be out of reach.
    pub(crate) async fn each_node(&self) -> Outcome<Vec<(String, Result<Link, RedisError>)>> {
        let mut link = self.link().await?;
        let mut slots = cmd("CLUSTER");
        slots.arg("SLOTS");
        let alone = |link: Link| Ok(vec![(link.address(), Ok(link))]);
        let Ok(Value::Array(ranges)) = link.once(&slots, REPLY).await else { return alone(link) };
        let mut found = Vec::new();
        for range in ranges {
            let Value::Array(range) = range else { continue };
            let Some(Value::Array(node)) = range.get(2) else { continue };
            if let (Some(host), Some(Value::Int(port))) = (node.first(), node.get(1)) {
                let node = (crate::reply::text(host), u16::try_from(*port).unwrap_or(0));
                if !found.contains(&node) {
                    found.push(node);
                }
            }
        }
        if found.is_empty() {
            return alone(link);
        }
        let mut nodes = Vec::new();
        for (host, port) in found {
            nodes.push((format!("{host}:{port}"), self.beside(&link, &host, port).await));
        }
        Ok(nodes)
    }

    /// A primary that is none of these, where all are in reach.
    pub(crate) async fn newcomer(&self, known: &[String]) -> Option<String> {
        let nodes = self.each_node().await.ok()?.into_iter();
        let now: Vec<String> =
            nodes.map(|(_, node)| node.ok().map(|node| node.address())).collect::<Option<_>>()?;
        now.into_iter().find(|node| !known.contains(node))
    }

    /// Where we look first, for people.
    pub(crate) fn places(&self) -> String {
        self.seeds.iter().map(|seed| seed.addr().to_string()).collect::<Vec<_>>().join(",")
    }
}

/// The same greeting at another place. A node that does not know its own name is where we asked.
fn moved_to(from: &ConnectionInfo, to: String, port: u16) -> ConnectionInfo {
    let named = |here: &String| if to.is_empty() || to == "?" { here.clone() } else { to.clone() };
    let addr = match from.addr() {
        ConnectionAddr::Tcp(host, _) => ConnectionAddr::Tcp(named(host), port),
        ConnectionAddr::TcpTls { host, insecure, tls_params, .. } => ConnectionAddr::TcpTls {
            host: named(host),
            port,
            insecure: *insecure,
            tls_params: tls_params.clone(),
        },
        _ => ConnectionAddr::Tcp(to, port),
    };
    from.clone().set_addr(addr)
}

/// One connection, that follows its key to the node that has it. Connects again when it is asked after a break.
pub(crate) struct Link {
    server: Server,
    client: Client,
    connection: Option<MultiplexedConnection>,
    /// When Sentinel said last that this is the primary.
    named: Option<Moment>,
}

impl Link {
    /// "host:port", or the path of a socket.
    pub(crate) fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Sends a request to the node that has its key, and waits so long for the reply.
    pub(crate) async fn ask(&mut self, request: &Cmd, limit: Duration) -> Result<Value, RedisError> {
        self.leave_old_primary().await?;
        for _ in 0..HOPS {
            let error = match self.once(request, limit).await {
                Err(error) if error.redirect_node().is_some() => error,
                reply => return reply,
            };
            let Some((node, _)) = error.redirect_node() else { continue };
            let Some((host, port)) = node.rsplit_once(':') else { return Err(error) };
            let port = port.parse().unwrap_or(0);
            let there = moved_to(self.client.get_connection_info(), host.to_owned(), port);
            if error.code() == Some("ASK") {
                let mut guest = self.server.connect(there).await?;
                guest.once(&cmd("ASKING"), REPLY).await?;
                return guest.once(request, limit).await;
            }
            *self = self.server.connect(there).await?;
        }
        self.once(request, limit).await
    }

    /// The same for one that may be sent twice: once more if the reply was lost, or was true only for the moment.
    pub(crate) async fn ask_again(&mut self, request: &Cmd) -> Result<Value, RedisError> {
        match self.ask(request, REPLY).await {
            Err(error) if is_passing(&error) => self.ask(request, REPLY).await,
            reply => reply,
        }
    }

    async fn connection(&mut self) -> Result<&mut MultiplexedConnection, RedisError> {
        if self.connection.is_none() {
            *self = Box::pin(self.server.primary()).await?;
        }
        self.connection.as_mut().ok_or_else(no_reply)
    }

    /// Sends requests to this server one after the other without waiting in between, and waits so long for all replies.
    /// A refused one has its error among them.
    pub(crate) async fn many(
        &mut self,
        requests: &Pipeline,
        limit: Duration,
    ) -> Result<Vec<Value>, RedisError> {
        let connection = self.connection().await?;
        let replies = connection.send_packed_commands(requests, 0, requests.len());
        let replies = timeout(limit, replies).await.unwrap_or_else(|_| Err(no_reply()));
        if replies.as_ref().is_err_and(is_broken) {
            self.connection = None;
        }
        replies
    }

    /// For some seconds after a failover the old primary goes on as if nothing were; only Sentinel knows. When none of them
    /// answers, things stay as they are.
    async fn leave_old_primary(&mut self) -> Result<(), RedisError> {
        if self.connection.is_none() || self.named.is_none_or(|at| Moment::now() < at.after(FRESH)) {
            return Ok(());
        }
        if let Ok(named) = self.server.named().await {
            if named.addr() != self.client.get_connection_info().addr() {
                *self = self.server.connect(named).await?;
            }
            self.named = Some(Moment::now());
        }
        Ok(())
    }

    /// Sends a request to this server, wherever its key is. A connection that is broken, or leads to a replica, is given up;
    /// the next request looks for the primary again.
    pub(crate) async fn once(&mut self, request: &Cmd, limit: Duration) -> Result<Value, RedisError> {
        let connection = self.connection().await?;
        let reply =
            timeout(limit, connection.send_packed_command(request)).await.unwrap_or_else(|_| Err(no_reply()));
        let reply = match reply {
            Ok(Value::ServerError(error)) => Err(error.into()),
            reply => reply,
        };
        if reply.as_ref().is_err_and(|error| is_broken(error) || error.code() == Some("READONLY")) {
            self.connection = None;
        }
        reply
    }
}

/// There was no reply.
pub(crate) fn is_broken(error: &RedisError) -> bool {
    // The client library counts a wrong password as broken, too.
    error.kind() != ErrorKind::AuthenticationFailed
        && (error.is_io_error()
            || error.is_timeout()
            || error.is_connection_dropped()
            || error.is_unrecoverable_error())
}

fn no_sentinel(error: &RedisError) -> RedisError {
    let kind = if error.is_connection_refusal() { ConnectionRefused } else { TimedOut };
    std::io::Error::new(kind, format!("no Sentinel answers: {error}")).into()
}

fn no_reply() -> RedisError {
    std::io::Error::new(TimedOut, "no reply in time").into()
}

/// For the user: why there is no connection.
pub(crate) fn no_server(error: RedisError) -> Failure {
    let failure = Failure::from(error);
    match failure.exit {
        Exit::USAGE => Failure::new(Exit::NO_SERVER, failure.text),
        _ => failure,
    }
}
