//! `top`: shows the locks on the screen.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::connect::{Link, Server, ROUND};
use crate::exit::{Exit, Failure, OrSystem, Outcome};
use crate::locks::{self, word, Filter};
use crate::print::shown;
use crate::signals::{Signals, ENDING};
use crate::time::some_span;
use crate::verbs::break_;
use crate::verbs::cancel::end_wait;
use crate::view::{Listed, Sample, View, Wish};

/// Up to so many locks are asked for in full each time; of more, those that are waited for and those in sight.
const IN_FULL: usize = 1_000;
/// Of so many at most that are waited for.
const CONTENDED: usize = 10_000;
/// The servers are asked for no more than a quarter of the time.
const REST: u32 = 3;
/// Who waits for the chosen lock, as many as have room.
const LINE: usize = 6;

/// The longest lines first. Keys: / filter, p pause, b break with a reason, c cancel a wait, q quit.
#[derive(Args, Debug)]
pub(crate) struct Top {
    /// Only names that match, as in KEYS
    pattern: Option<OsString>,
    /// How often to look
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = some_span)]
    every: Duration,
}

/// What the screen wants to know.
#[derive(Clone, Default, PartialEq)]
struct Wanted {
    pattern: Option<Vec<u8>>,
    in_sight: Vec<Vec<u8>>,
    chosen: Option<(usize, Vec<u8>)>,
}

impl Top {
    pub(crate) async fn run(self, server: &Server) -> Outcome<Exit> {
        let mut signals = Signals::listen(&ENDING)?;
        let pattern = self.pattern.as_deref().map(word);
        let mut nodes = server.nodes().await?;
        // Said before the screen changes: who may not look, and where the module is missing.
        let first = sample(&mut nodes, &Wanted { pattern: pattern.clone(), ..Wanted::default() }).await?;
        if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
            return Err(Failure::usage("top needs a terminal; ls lists the locks once"));
        }
        let mut view = View::new(server.places(), pattern.map(|pattern| shown(&pattern)));
        view.take(first);

        let (want, wanted) = watch::channel(Wanted::default());
        let (sender, mut samples) = mpsc::channel(1);
        tokio::spawn(look(server.clone(), nodes, wanted, sender, self.every));
        // It ends with the program: a read of keys cannot be given up.
        let (pressed, mut keys) = unbounded_channel();
        std::thread::spawn(move || while event::read().is_ok_and(|event| pressed.send(event).is_ok()) {});

        let mut terminal = ratatui::try_init().or_system("use the terminal")?;
        let outcome = loop {
            if let Err(error) = terminal.draw(|frame| view.draw(frame)).or_system("draw") {
                break Err(error);
            }
            let wish = tokio::select! {
                _ = signals.ending() => Wish::Quit,
                Some(sample) = samples.recv() => {
                    view.take(sample);
                    Wish::Nothing
                }
                event = keys.recv() => match event {
                    Some(Event::Key(key)) if key.kind != KeyEventKind::Release => view.press(key),
                    // The next round draws for the new size.
                    Some(_) => Wish::Nothing,
                    None => Wish::Quit,
                },
            };
            match wish {
                Wish::Nothing | Wish::Look => {}
                Wish::Quit => break Ok(Exit::OK),
                Wish::Break { key, owner, reason } => {
                    let done = break_lock(server, &key, owner.as_deref(), &reason).await;
                    view.say(done.unwrap_or_else(|failure| failure.text));
                }
                Wish::Cancel { key, owner } => {
                    let done = cancel(server, &key, owner.as_bytes()).await;
                    view.say(done.unwrap_or_else(|failure| failure.text));
                }
            }
            let chosen = view.chosen().map(|listed| (listed.node, listed.key.clone()));
            let now = Wanted { pattern: view.pattern(), in_sight: view.in_sight(), chosen };
            want.send_if_modified(|before| {
                let is_new = *before != now;
                *before = now;
                is_new
            });
        };
        ratatui::restore();
        outcome
    }
}

async fn break_lock(server: &Server, key: &[u8], owner: Option<&[u8]>, reason: &str) -> Outcome<String> {
    let reason = Some(reason.as_bytes()).filter(|reason| !reason.is_empty());
    let ended = break_::end(&mut server.link().await?, key, owner, reason).await?;
    Ok(format!("{}: {ended} {} ended", shown(key), if ended == 1 { "hold" } else { "holds" }))
}

async fn cancel(server: &Server, key: &[u8], owner: &[u8]) -> Outcome<String> {
    let (shown_key, shown_owner) = (shown(key), shown(owner));
    Ok(if end_wait(&mut server.link().await?, key, owner).await? {
        format!("{shown_key}: the wait of {shown_owner} has ended")
    } else {
        format!("{shown_key}: {shown_owner} does not wait for it")
    })
}

/// Looks again and again, at once when the screen wants to know something else.
async fn look(
    server: Server,
    mut nodes: Vec<Link>,
    mut wanted: watch::Receiver<Wanted>,
    samples: mpsc::Sender<Sample>,
    every: Duration,
) {
    let mut looked_around = Instant::now();
    loop {
        let start = Instant::now();
        if looked_around.elapsed() > ROUND {
            let known: Vec<String> = nodes.iter().map(Link::address).collect();
            if server.newcomer(&known).await.is_some()
                && let Ok(found) = server.nodes().await
            {
                nodes = found;
            }
            looked_around = Instant::now();
        }
        let want = wanted.borrow_and_update().clone();
        let asked = match sample(&mut nodes, &want).await {
            Ok(asked) => asked,
            Err(failure) => {
                // A node is away.
                if let Ok(found) = server.nodes().await {
                    nodes = found;
                }
                Sample { trouble: Some(failure.text), ..Sample::default() }
            }
        };
        let took = start.elapsed();
        if samples.send(asked).await.is_err() {
            return;
        }
        sleep(took * REST).await;
        let _ = timeout(every.saturating_sub(start.elapsed()), wanted.changed()).await;
    }
}

async fn sample(nodes: &mut [Link], want: &Wanted) -> Outcome<Sample> {
    let in_sight: HashSet<&[u8]> = want.in_sight.iter().map(Vec::as_slice).collect();
    let mut sample = Sample::default();
    for (node, link) in nodes.iter_mut().enumerate() {
        let filter = Filter { pattern: want.pattern.clone(), ..Filter::default() };
        let names = locks::names(link, &filter).await?;
        let in_full: Vec<Vec<u8>> = if names.len() <= IN_FULL {
            names.clone()
        } else {
            let mut contended = locks::names(link, &Filter { contended: true, ..filter }).await?;
            contended.truncate(CONTENDED);
            let known: HashSet<&[u8]> = contended.iter().map(Vec::as_slice).collect();
            let more: Vec<_> = names
                .iter()
                .filter(|name| in_sight.contains(name.as_slice()) && !known.contains(name.as_slice()))
                .cloned()
                .collect();
            [contended, more].concat()
        };
        let read = locks::read(link, &in_full).await?;
        let known: HashSet<Vec<u8>> = in_full.into_iter().collect();
        let rest = names.into_iter().filter(|name| !known.contains(name));
        sample.locks.extend(rest.map(|key| Listed { node, key, lock: None }));
        let at_work = read.into_iter().filter(|lock| !lock.is_at_rest());
        sample.locks.extend(at_work.map(|lock| Listed { node, key: lock.key.clone(), lock: Some(lock) }));
        let longest = || {
            let locks = sample.locks.iter().filter(|listed| listed.node == node);
            locks.max_by_key(|listed| listed.lock.as_ref().map_or(0, |lock| lock.waiting))
        };
        let chosen = match &want.chosen {
            Some((at, key)) => Some(key.clone()).filter(|_| *at == node),
            None if sample.line.is_none() => longest().map(|listed| listed.key.clone()),
            None => None,
        };
        if let Some(key) = chosen
            && let Ok(line) = locks::line(link, &key, LINE).await
        {
            sample.line = Some((key, line));
        }
    }
    Ok(sample)
}
