//! A crowd of clients of one lock: here, as tasks of this one thread, or in a program of another language, as its threads.

use crate::fast::{Names, Work};
use crate::log::{Event, Log};
use crate::peers::child::{Language, Languages, Talk};
use crate::peers::{Lock, Peer, Terms};
use crate::servers::Group;
use anyhow::{bail, Context, Result};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout, timeout_at};

/// What a user takes: the default of this module, of Redisson, and of the lesson with GET and SET EX.
const LEASE: Duration = Duration::from_secs(30);
/// The default of redis-py.
const POLL: Duration = Duration::from_millis(100);
const WARM_UP: Duration = Duration::from_millis(300);
/// A Java program is compiled while it runs.
const JAVA_WARM_UP: Duration = Duration::from_secs(2);
/// Servers that fork for each connection need a while for a thousand.
const CONNECT: Duration = Duration::from_secs(60);
/// Who waits at the end gets its turn within this time, or is noted as waiting. Known to the clients in other languages.
const DRAIN: Duration = Duration::from_secs(5);
// For the numbers in names: no two measurements share a lock.
thread_local!(static RUNS: Cell<u64> = const { Cell::new(0) });

pub(crate) struct Crowd {
    pub work: Work,
    peer: Peer,
    terms: Terms,
    languages: Languages,
    /// When the clock of the log began.
    epoch: Instant,
    here: Option<Here>,
    there: Option<Talk>,
}

/// Clients at work.
struct Here {
    tasks: JoinSet<Result<()>>,
    books: Rc<Books>,
}

#[derive(Default)]
struct Books {
    events: RefCell<Vec<Event>>,
    waiting: RefCell<Vec<Option<u64>>>,
    ends: Cell<bool>,
}

impl Crowd {
    pub(crate) fn new(peer: Peer, group: &Group, work: Work, languages: &Languages) -> Self {
        let run = RUNS.replace(RUNS.get() + 1);
        let terms = Terms {
            ports: group.ports(),
            name: format!("fast{run}"),
            owner: String::new(),
            lease: LEASE,
            poll: POLL,
        };
        let epoch = Instant::now();
        Self { work, peer, terms, languages: languages.clone(), epoch, here: None, there: None }
    }

    pub(crate) fn with_lease(mut self, lease: Duration) -> Self {
        self.terms.lease = lease;
        self
    }

    pub(crate) fn warm_up(&self) -> Duration {
        if self.peer.language() == Some(Language::Java) {
            JAVA_WARM_UP
        } else {
            WARM_UP
        }
    }

    /// Whether its clients cannot tell how many requests they have sent.
    pub(crate) fn counts_at_servers(&self) -> bool {
        self.peer.language().is_some()
    }

    /// The clock of the log.
    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_nanos() as u64
    }

    /// Connects, if that is still to be done, and starts to work.
    pub(crate) async fn begin(&mut self) -> Result<()> {
        match self.peer.language() {
            Some(_) => self.begin_there().await,
            None => self.begin_here().await,
        }
    }

    /// Its clients, connected, as far as they are of this program.
    pub(crate) async fn locks(&self) -> Result<Vec<Box<dyn Lock>>> {
        let mut locks = Vec::new();
        for index in 0..self.work.clients {
            let name = match self.work.names {
                Names::One => self.terms.name.clone(),
                _ => format!("{}n{index}", self.terms.name),
            };
            let terms = Terms { owner: format!("{index:032x}"), name, ..self.terms.clone() };
            locks.push(timeout(CONNECT, self.peer.client(terms)).await.context("connecting")??);
        }
        Ok(locks)
    }

    async fn begin_here(&mut self) -> Result<()> {
        let locks = self.locks().await?;
        let books = Rc::new(Books::default());
        books.waiting.borrow_mut().resize(self.work.clients, None);
        let mut tasks = JoinSet::new();
        self.epoch = Instant::now();
        for (index, lock) in locks.into_iter().enumerate() {
            let prefix = format!("{}n{index}", self.terms.name);
            let client = Client { index, lock, work: self.work, epoch: self.epoch, books: books.clone() };
            tasks.spawn_local(client.run(prefix));
        }
        self.here = Some(Here { tasks, books });
        Ok(())
    }

    async fn begin_there(&mut self) -> Result<()> {
        if self.there.is_none() {
            let mut command = self.languages.command(self.peer)?;
            command.arg("crowd").arg(self.peer.word()).arg(self.terms.lease.as_millis().to_string());
            command.arg(self.terms.poll.as_millis().to_string()).arg(self.work.clients.to_string());
            command.arg(self.work.hold.as_millis().to_string());
            command.arg(if self.work.names == Names::One { "one" } else { "own" });
            command.arg(&self.terms.name).args(self.terms.ports.iter().map(u16::to_string));
            self.there = Some(Talk::start(command, CONNECT).await?);
        }
        let talk = self.there.as_mut().context("no program")?;
        // It answers with its clock.
        let line = talk.ask("go").await?;
        let now = line.strip_prefix("now ").with_context(|| format!("the client said {line:?}"))?;
        let since = Duration::from_nanos(now.parse()?);
        self.epoch = Instant::now().checked_sub(since).context("a clock older than this machine")?;
        Ok(())
    }

    /// No more is asked for, and who waits gets its turn.
    pub(crate) async fn end(&mut self) -> Result<Log> {
        if let Some(here) = self.here.take() {
            return here.end().await;
        }
        let mut talk = self.there.take().context("no crowd at work")?;
        talk.say("stop").await?;
        let mut log = Log::default();
        loop {
            let line = timeout(DRAIN * 3, talk.line()).await.context("the client does not stop")??;
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["end"] => break,
                ["error", ..] => bail!("{line}"),
                ["waiting", since] => log.waiting.push(since.parse()?),
                [client, asked, granted, releasing, released] => log.events.push(Event {
                    client: client.parse()?,
                    asked: asked.parse()?,
                    granted: granted.parse()?,
                    releasing: releasing.parse()?,
                    released: released.parse()?,
                    sent: 0,
                }),
                _ => bail!("the client said {line:?}"),
            }
        }
        // With clients that wait for ever it cannot begin again.
        if log.waiting.is_empty() {
            self.there = Some(talk);
        }
        Ok(log)
    }
}

impl Here {
    async fn end(mut self) -> Result<Log> {
        self.books.ends.set(true);
        let deadline = tokio::time::Instant::now() + DRAIN;
        while let Ok(Some(ended)) = timeout_at(deadline, self.tasks.join_next()).await {
            ended.context("a client")??;
        }
        self.tasks.shutdown().await;
        Ok(Log {
            events: self.books.events.take(),
            waiting: self.books.waiting.take().into_iter().flatten().collect(),
        })
    }
}

struct Client {
    index: usize,
    lock: Box<dyn Lock>,
    work: Work,
    epoch: Instant,
    books: Rc<Books>,
}

impl Client {
    async fn run(mut self, prefix: String) -> Result<()> {
        let names: Vec<_> = (0..self.work.names.batch()).map(|number| format!("{prefix}b{number}")).collect();
        while !self.books.ends.get() {
            let (asked, sent) = (self.now(), self.lock.sent());
            self.books.waiting.borrow_mut()[self.index] = Some(asked);
            let (granted, releasing) = match self.work.names {
                Names::Batch(_) => {
                    self.lock.pairs(&names).await?;
                    (self.now(), asked)
                }
                _ => self.pair().await?,
            };
            let released = self.now();
            self.books.waiting.borrow_mut()[self.index] = None;
            let sent = self.lock.sent() - sent;
            let event = Event { client: self.index, asked, granted, releasing, released, sent };
            self.books.events.borrow_mut().push(event);
            if !self.work.hold.is_zero() {
                // Nobody may take at once what it has just given back.
                sleep(self.work.hold).await;
            }
        }
        Ok(())
    }

    async fn pair(&mut self) -> Result<(u64, u64)> {
        self.lock.acquire().await?;
        let granted = self.now();
        self.books.waiting.borrow_mut()[self.index] = None;
        if !self.work.hold.is_zero() {
            sleep(self.work.hold).await;
        }
        let releasing = self.now();
        self.lock.release().await?;
        Ok((granted, releasing))
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }
}
