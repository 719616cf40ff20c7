//! `doctor`: looks for settings that are bad for locks.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use redis::{cmd, pipe, RedisError, Value};
use serde_json::json;

use crate::connect::{is_broken, Link, Server, REPLY};
use crate::diagnosis::{examine, Facts, Finding, Level, SETTINGS};
use crate::exit::{Exit, Failure, Outcome};
use crate::locks::{names, Filter};
use crate::print::{line, safe, shown};
use crate::reply::{text, Fields};

/// So many locks are looked at for a time to live.
const LOOKED_AT: usize = 10_000;

/// Asks the server, its replicas, and all nodes of a cluster. Exit code 1 if there is a fault.
#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// Show what is in order, too
    #[arg(short, long)]
    all: bool,
    /// JSON instead of text
    #[arg(short = 'J', long)]
    json: bool,
}

impl Doctor {
    pub(crate) async fn run(self, server: &Server) -> Outcome<Exit> {
        let mut servers = Vec::new();
        for mut primary in server.nodes().await? {
            let mut facts = look(&mut primary).await?;
            if facts.module == Some(None) {
                return Err(Failure::new(
                    Exit::NO_SERVER,
                    format!("the server {} has not loaded the redis-lock module", facts.address),
                ));
            }
            let mut replicas = Vec::new();
            for (host, port) in facts.info.as_ref().map(replicas_of).unwrap_or_default() {
                match server.beside(&primary, &host, port).await {
                    Ok(mut link) => replicas.push(look(&mut link).await?),
                    Err(_) => facts.silent_replicas.push(format!("{host}:{port}")),
                }
            }
            servers.push(facts);
            servers.extend(replicas);
        }
        let found = examine(&servers);
        if self.json {
            let object = |finding: &Finding| {
                json!({"level": finding.level.word(), "check": finding.check, "server": finding.server,
                    "found": finding.found, "means": finding.means})
            };
            line(&found.iter().map(object).collect::<serde_json::Value>().to_string())?;
        } else {
            self.tell(&found)?;
        }
        let is_ill = found.iter().any(|finding| finding.level == Level::Fault);
        Ok(if is_ill { Exit::FAULT } else { Exit::OK })
    }

    fn tell(&self, found: &[Finding]) -> Outcome<()> {
        for finding in found.iter().filter(|finding| self.all || finding.level != Level::Good) {
            let (level, check) = (finding.level.word(), finding.check);
            line(&format!("{level}: {check}: {} ({})", safe(finding.found.as_bytes()), finding.server))?;
            if !finding.means.is_empty() {
                line(&format!("    {}", finding.means))?;
            }
        }
        Ok(())
    }
}

/// Where the replicas of a primary are, as it says itself.
pub(crate) fn replicas_of(info: &HashMap<String, String>) -> Vec<(String, u16)> {
    let mut replicas: Vec<_> = (0..)
        .map_while(|n| info.get(&format!("slave{n}")))
        .filter_map(|line| {
            let fields: HashMap<_, _> = line.split(',').filter_map(|field| field.split_once('=')).collect();
            Some(((*fields.get("ip")?).to_owned(), fields.get("port")?.parse().ok()?))
        })
        .collect();
    replicas.dedup();
    replicas
}

/// A reply, or `None` if this user may not ask.
fn allowed(reply: Result<Value, RedisError>) -> Result<Option<Value>, RedisError> {
    match reply {
        Ok(reply) => Ok(Some(reply)),
        Err(error) if error.code() == Some("NOPERM") => Ok(None),
        Err(error) => Err(error),
    }
}

/// The lines "name:value" of INFO.
pub(crate) fn figures(info: &str) -> HashMap<String, String> {
    let pairs = info.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.trim_end().to_owned())).collect()
}

async fn look(link: &mut Link) -> Outcome<Facts> {
    let mut facts = Facts { address: link.address(), ..Facts::default() };
    let info = allowed(link.once(cmd("INFO").arg("everything"), REPLY).await)?;
    facts.info = info.map(|reply| figures(&text(&reply)));
    let mut config = cmd("CONFIG");
    config.arg("GET").arg(&SETTINGS[..]);
    let config = allowed(link.once(&config, REPLY).await)?;
    if let Some(config) = config {
        facts.config = Some(Fields::of(config)?.texts());
    }
    facts.is_replica =
        facts.info.as_ref().is_some_and(|info| info.get("role").is_some_and(|role| role == "slave"));
    if let (Some(info), true) =
        (&mut facts.info, facts.config.as_ref().is_some_and(|config| config.get("cluster-enabled").is_some()))
        && info.get("cluster_enabled").is_some_and(|is| is == "1")
        && let Some(state) = allowed(link.once(cmd("CLUSTER").arg("INFO"), REPLY).await)?
    {
        info.extend(figures(&text(&state)));
    }
    facts.module = module(link).await?;
    facts.clock_ahead_ms = clock(link).await?;
    facts.renamed = renamed(link).await?;
    if facts.module == Some(None) {
        return Ok(facts);
    }
    let mut forbidden = None;
    for words in [
        &["LOCK.INFO", "redis-lock:doctor"][..],
        &["LOCK.WAITERS", "redis-lock:doctor"],
        &["LOCK.STATS"],
        &["LOCK.SCAN", "0", "COUNT", "1"],
    ] {
        let (Some(name), Some(arguments)) = (words.first(), words.get(1..)) else { continue };
        let reply = link.once(cmd(name).arg(arguments), REPLY).await;
        match reply {
            Err(error) if error.code() == Some("NOPERM") => {
                facts.forbidden.push((*name).to_owned());
                forbidden = Some(error);
            }
            // The connection, or the server: not what was asked for.
            Err(error) if is_broken(&error) => return Err(error.into()),
            _ => {}
        }
    }
    // Who may see neither locks nor figures nor settings has asked for nothing.
    if let (Some(error), None, None, 4) = (forbidden, &facts.info, &facts.config, facts.forbidden.len()) {
        return Err(error.into());
    }
    if !facts.forbidden.iter().any(|name| name == "LOCK.SCAN") {
        match mortal(link).await? {
            Some(found) => facts.mortal_locks = Some(found),
            None => facts.forbidden.push("PTTL".to_owned()),
        }
    }
    Ok(facts)
}

async fn module(link: &mut Link) -> Result<Option<Option<i64>>, RedisError> {
    let Some(Value::Array(modules)) = allowed(link.once(cmd("MODULE").arg("LIST"), REPLY).await)? else {
        return Ok(None);
    };
    let modules = modules.into_iter().filter_map(|module| Fields::of(module).ok());
    let mut ours = modules.filter(|module| module.text("name").as_deref() == Some("lock"));
    Ok(Some(ours.find_map(|module| module.number("ver"))))
}

/// By how much the server's clock is ahead of ours, as far as the way there lets us know.
async fn clock(link: &mut Link) -> Result<Option<i64>, RedisError> {
    let start = Instant::now();
    let Some(time) = allowed(link.once(&cmd("TIME"), REPLY).await)? else { return Ok(None) };
    let way = start.elapsed() / 2;
    let (seconds, micros): (u64, u64) = redis::from_redis_value(time)?;
    let there = Duration::from_secs(seconds) + Duration::from_micros(micros) + way;
    let here = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    Ok(Some(ms(there) - ms(here)))
}

/// Which of the commands that the module calls itself are not there under their names.
async fn renamed(link: &mut Link) -> Result<Vec<String>, RedisError> {
    const NEEDED: [&str; 5] = ["GET", "SET", "EXISTS", "COMMAND", "CLIENT"];
    let mut request = cmd("COMMAND");
    request.arg("INFO").arg(&NEEDED[..]);
    match link.once(&request, REPLY).await {
        Ok(Value::Array(found)) => {
            let pairs = NEEDED.iter().zip(found);
            let gone = pairs.filter(|(_, found)| matches!(found, Value::Nil));
            Ok(gone.map(|(name, _)| (*name).to_owned()).collect())
        }
        Err(error) if error.detail().is_some_and(|detail| detail.starts_with("unknown command")) => {
            Ok(vec!["COMMAND".to_owned()])
        }
        _ => Ok(Vec::new()),
    }
}

/// Locks with a time to live, which only somebody else can have given them. Returns `None` if this user may not ask.
async fn mortal(link: &mut Link) -> Result<Option<Vec<String>>, RedisError> {
    let mut found = Vec::new();
    let names = names(link, &Filter::default()).await?;
    for page in names.get(..names.len().min(LOOKED_AT)).unwrap_or_default().chunks(500) {
        let mut requests = pipe();
        for key in page {
            requests.cmd("PTTL").arg(key);
        }
        for (key, reply) in page.iter().zip(link.many(&requests, REPLY).await?) {
            match reply {
                Value::Int(0..) => found.push(shown(key)),
                Value::ServerError(error) if error.code() == "NOPERM" => return Ok(None),
                _ => {}
            }
        }
    }
    Ok(Some(found))
}
