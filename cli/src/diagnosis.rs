//! What settings and figures of a server mean for locks: rules, each with a reason.

use std::collections::HashMap;

/// How long a lease is when nobody says, if the server does not tell.
const LEASE_MS: i64 = 30_000;
/// How far clocks may be apart.
const SKEW_MS: i64 = 1_000;
/// So many names are told of locks with a fault.
const NAMES: usize = 5;
/// The smallest number of events that a share is made of.
const ENOUGH: i64 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Locks can be lost or stuck: mend it.
    Fault,
    /// A choice that has a price for locks.
    Note,
    /// It could not be looked at.
    Unknown,
    Good,
}

impl Level {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Note => "note",
            Self::Unknown => "unknown",
            Self::Good => "good",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub level: Level,
    pub check: &'static str,
    pub server: String,
    pub found: String,
    /// What that means for locks, and what to do.
    pub means: &'static str,
}

/// What is known of one server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub address: String,
    /// `None` where it was not to be read.
    pub info: Option<HashMap<String, String>>,
    pub config: Option<HashMap<String, String>>,
    /// The version of the module; `Some(None)` if the server has none.
    pub module: Option<Option<i64>>,
    /// By how much its clock is ahead of the clock of the machine that asks.
    pub clock_ahead_ms: Option<i64>,
    /// Replicas that the server knows and that do not answer.
    pub silent_replicas: Vec<String>,
    /// Locks that somebody gave a time to live. `None` where this user may not ask.
    pub mortal_locks: Option<Vec<String>>,
    /// Commands that this module needs and that have another name here.
    pub renamed: Vec<String>,
    /// What this user may not run, of what operators need.
    pub forbidden: Vec<String>,
    pub is_replica: bool,
}

impl Facts {
    fn info(&self, name: &str) -> Option<&str> {
        self.info.as_ref().and_then(|info| info.get(name)).map(String::as_str)
    }

    fn number(&self, name: &str) -> i64 {
        self.info(name).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn config(&self, name: &str) -> Option<&str> {
        self.config.as_ref().and_then(|config| config.get(name)).map(String::as_str)
    }

    fn setting(&self, name: &str) -> Option<i64> {
        self.config(name).and_then(|text| text.parse().ok())
    }

    fn is_redis_8_2(&self) -> bool {
        self.info("valkey_version").is_none()
            && self.info("redis_version").is_some_and(|version| version.starts_with("8.2."))
    }
}

/// The settings that are asked for.
pub(crate) const SETTINGS: [&str; 19] = [
    "maxmemory",
    "maxmemory-policy",
    "appendonly",
    "appendfsync",
    "save",
    "stop-writes-on-bgsave-error",
    "io-threads",
    "tcp-keepalive",
    "timeout",
    "maxclients",
    "cluster-enabled",
    "cluster-node-timeout",
    "min-replicas-to-write",
    "replica-read-only",
    "lock.default-lease-ms",
    "lock.max-lease-ms",
    "lock.deadlock-detection",
    "lock.loss-ledger-size",
    "lock.max-waiters",
];

/// Judges all servers, the most urgent findings first. What is in order is among them.
pub(crate) fn examine(servers: &[Facts]) -> Vec<Finding> {
    let mut found = Vec::new();
    for facts in servers {
        let mut judge = Judge { facts, found: &mut found };
        judge.module();
        judge.eviction();
        judge.persistence();
        judge.io_threads();
        judge.replicas();
        judge.connections();
        judge.cluster();
        judge.locks();
        judge.rights();
    }
    clocks(servers, &mut found);
    versions(servers, &mut found);
    found.sort_by_key(|finding| finding.level);
    found
}

struct Judge<'a> {
    facts: &'a Facts,
    found: &'a mut Vec<Finding>,
}

impl Judge<'_> {
    fn say(&mut self, level: Level, check: &'static str, found: impl Into<String>, means: &'static str) {
        let server = self.facts.address.clone();
        self.found.push(Finding { level, check, server, found: found.into(), means });
    }

    /// A finding if it is so, and a good mark if not.
    fn if_so(&mut self, bad: bool, level: Level, check: &'static str, found: String, means: &'static str) {
        let level = if bad { level } else { Level::Good };
        self.say(level, check, found, if bad { means } else { "" });
    }

    /// A check of settings that this user may not read.
    fn unread(&mut self, check: &'static str) {
        self.say(
            Level::Unknown,
            check,
            "not known",
            "It is a matter of settings. Give this user +config|get.",
        );
    }

    fn module(&mut self) {
        match self.facts.module {
            Some(Some(version)) => self.say(Level::Good, "module", format!("version {version}"), ""),
            Some(None) => self.say(
                Level::Fault,
                "module",
                "not loaded",
                "A replica without it cannot follow, and has no locks when it is promoted. Install it there, replicas first.",
            ),
            None => self.say(
                Level::Unknown,
                "module",
                "not asked",
                "This user may not run MODULE LIST, so whether the module is there was not looked at.",
            ),
        }
        for name in &self.facts.renamed {
            self.say(
                Level::Fault,
                "rename-command",
                format!("{name} has another name"),
                "The module calls it itself: locks fail, and in a cluster all who wait are turned away. Give it its name back.",
            );
        }
    }

    fn eviction(&mut self) {
        let policy = self.facts.info("maxmemory_policy").or(self.facts.config("maxmemory-policy"));
        let Some(policy) = policy.map(str::to_owned) else { return };
        let known = self.facts.info("maxmemory").or(self.facts.config("maxmemory"));
        let maximum: i64 = known.and_then(|text| text.parse().ok()).unwrap_or(0);
        let any = policy.starts_with("allkeys");
        match (any, maximum) {
            (true, 1..) => self.say(
                Level::Fault,
                "maxmemory-policy",
                format!("{policy}, maxmemory {maximum}"),
                "A held lock can be evicted, and is then given twice. Use noeviction, or keep locks in a server of their own.",
            ),
            (true, _) => self.say(
                Level::Note,
                "maxmemory-policy",
                format!("{policy}, no maxmemory"),
                "As soon as somebody sets maxmemory a held lock can be evicted, and is then given twice. Use noeviction.",
            ),
            (false, _) => self.say(Level::Good, "maxmemory-policy", policy, ""),
        }
    }

    fn persistence(&mut self) {
        if self.facts.info.is_none() {
            return;
        }
        let aof = self.facts.info("aof_enabled") == Some("1");
        let has_save = self.facts.config("save").map(|save| !save.is_empty());
        let fsync = self.facts.config("appendfsync").map(str::to_owned);
        match (aof, fsync.as_deref(), has_save) {
            (true, None, _) => self.say(
                Level::Unknown,
                "persistence",
                "AOF, appendfsync not known",
                "With appendfsync no, grants may be lost in a crash of the machine. Give this user +config|get.",
            ),
            (false, _, None) => self.say(
                Level::Unknown,
                "persistence",
                "no AOF; whether there are snapshots is not known",
                "A restart frees all locks, or brings back those of the last snapshot. Give this user +config|get.",
            ),
            (true, Some("no"), _) => self.say(
                Level::Fault,
                "persistence",
                "AOF, appendfsync no",
                "After a crash of the machine half a minute of grants may be lost, and those locks are given again. Use everysec or always.",
            ),
            (true, Some(fsync), _) => {
                self.say(Level::Good, "persistence", format!("AOF, appendfsync {fsync}"), "");
            }
            (false, _, Some(false)) => self.say(
                Level::Note,
                "persistence",
                "none",
                "A restart frees all locks while their holders work on. Use appendonly yes, or a fence on what the locks protect.",
            ),
            (false, _, Some(true)) => self.say(
                Level::Note,
                "persistence",
                "snapshots alone",
                "A restart brings back locks that were released, NOEXPIRE ones for ever, and forgets new ones. Use appendonly yes.",
            ),
        }
        for (field, check, means) in [
            (
                "aof_last_write_status",
                "AOF",
                "The last write to the AOF failed: grants are refused with MISCONF, or lost at the next restart. Look at the disk.",
            ),
            (
                "aof_last_bgrewrite_status",
                "AOF rewrite",
                "The last rewrite failed: the AOF grows, and a restart takes longer and longer. Look at the server's log.",
            ),
        ] {
            let status = self.facts.info(field).unwrap_or("ok").to_owned();
            self.if_so(aof && status != "ok", Level::Fault, check, status, means);
        }
        let status = self.facts.info("rdb_last_bgsave_status").unwrap_or("ok").to_owned();
        let stops = self.facts.config("stop-writes-on-bgsave-error") != Some("no") && has_save != Some(false);
        self.if_so(
            stops && status != "ok",
            Level::Fault,
            "snapshot",
            status,
            "The last snapshot failed, so the server refuses writes: no lock is granted, renewed or released. Look at its log.",
        );
    }

    fn io_threads(&mut self) {
        if !self.facts.is_redis_8_2() && self.facts.config.is_none() {
            return;
        }
        let Some(threads) = self.facts.setting("io-threads") else { return self.unread("io-threads") };
        // With another appendfsync a crash loses what was acknowledged last, whatever the threads do.
        let is_promised = self.facts.info("aof_enabled") == Some("1")
            && self.facts.config("appendfsync").is_none_or(|fsync| fsync == "always");
        self.if_so(
            self.facts.is_redis_8_2() && threads > 1 && is_promised,
            Level::Fault,
            "io-threads",
            threads.to_string(),
            "Redis 8.2.3 loses acknowledged grants when it is killed, in spite of appendfsync always. Leave it at 1.",
        );
    }

    fn replicas(&mut self) {
        for replica in self.facts.silent_replicas.clone() {
            self.say(
                Level::Unknown,
                "replica",
                format!("{replica} does not answer"),
                "Whether it has the module and follows was not looked at: it cannot be reached from here with this user.",
            );
        }
        if self.facts.is_replica {
            let link = self.facts.info("master_link_status").unwrap_or("up").to_owned();
            self.if_so(
                link != "up",
                Level::Fault,
                "replica",
                format!("link to the primary {link}"),
                "It gets no grants. If it is promoted now, locks that are held are given again.",
            );
            let Some(read_only) = self.facts.config("replica-read-only").map(str::to_owned) else {
                return self.unread("replica-read-only");
            };
            self.if_so(
                read_only == "no",
                Level::Fault,
                "replica-read-only",
                read_only,
                "Locks that are taken there are known nowhere else, and go with the next synchronisation. Set it to yes.",
            );
            return;
        }
        if self.facts.info.is_none() {
            return;
        }
        let count = self.facts.number("connected_slaves");
        let Some(least) = self.facts.setting("min-replicas-to-write") else {
            return if count > 0 {
                self.unread("min-replicas-to-write");
            };
        };
        self.if_so(
            count > 0 && least == 0,
            Level::Note,
            "min-replicas-to-write",
            format!("{least}, {count} replicas"),
            "A primary that is cut off from its replicas goes on granting, beside the new primary. 1 stops that, at a price.",
        );
    }

    fn connections(&mut self) {
        let lease = self.facts.setting("lock.default-lease-ms").unwrap_or(LEASE_MS);
        if self.facts.config.is_none() {
            self.unread("tcp-keepalive");
            self.unread("timeout");
        }
        if let Some(keepalive) = self.facts.setting("tcp-keepalive") {
            let found = format!("{keepalive} s");
            if keepalive == 0 {
                self.say(
                    Level::Fault,
                    "tcp-keepalive",
                    found,
                    "A client whose machine was switched off waits in line for ever, and is handed locks that it never uses. Set it to 60.",
                );
            } else {
                self.if_so(
                    keepalive * 2_000 > lease.max(120_000),
                    Level::Note,
                    "tcp-keepalive",
                    found,
                    "A client whose machine was switched off is noticed after twice this time, and until then handed locks for a lease each. 60 is better.",
                );
            }
        }
        if let Some(timeout) = self.facts.setting("timeout") {
            self.if_so(
                timeout > 0,
                Level::Note,
                "timeout",
                format!("{timeout} s"),
                "A connection that is silent so long is closed, and ends every hold that is tied to it. Use 0, or tie to a connection that waits.",
            );
        }
        if self.facts.info.is_none() {
            return;
        }
        let most = self.facts.number("maxclients");
        let connected = self.facts.number("connected_clients");
        self.if_so(
            most > 0 && connected * 10 > most * 8,
            Level::Fault,
            "maxclients",
            format!("{connected} of {most} connections"),
            "Soon nobody can connect, holders neither, to renew or release. Raise maxclients, or let clients wait with tickets.",
        );
        let waiting = self.facts.number("lock_waiting") - self.facts.number("lock_tickets");
        let may_wait = self.facts.number("lock_max_waiters");
        self.if_so(
            may_wait > 0 && waiting * 10 > may_wait * 8,
            Level::Fault,
            "waiting clients",
            format!("{waiting} of {may_wait}"),
            "Soon waits are refused with QUEUEFULL. Raise maxclients, or let clients wait with tickets.",
        );
    }

    fn cluster(&mut self) {
        if self.facts.info("cluster_enabled") != Some("1") {
            return;
        }
        let lease = self.facts.setting("lock.default-lease-ms").unwrap_or(LEASE_MS);
        if let Some(timeout) = self.facts.setting("cluster-node-timeout") {
            self.if_so(
                timeout >= lease,
                Level::Fault,
                "cluster-node-timeout",
                format!("{timeout} ms, default lease {lease} ms"),
                "A failover takes longer than a lease, so holders lose their locks before they can renew. Make the lease longer.",
            );
        }
        let state = self.facts.info("cluster_state").unwrap_or("ok").to_owned();
        self.if_so(
            state != "ok",
            Level::Fault,
            "cluster state",
            state,
            "Requests for locks are refused with CLUSTERDOWN. Look at CLUSTER NODES.",
        );
    }

    fn locks(&mut self) {
        if let Some(mortal) = self.facts.mortal_locks.clone() {
            let mut names = mortal.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
            if mortal.len() > NAMES {
                names.push_str(&format!(" and {} more", mortal.len() - NAMES));
            }
            self.if_so(
                !mortal.is_empty(),
                Level::Fault,
                "time to live",
                if mortal.is_empty() { "no lock has one".to_owned() } else { names },
                "Somebody runs EXPIRE on lock keys: at that time the server deletes the lock, whatever its lease. Leave it to the lease.",
            );
        }
        if self.facts.info("lock_granted").is_none() {
            return;
        }
        let of = |name: &str| self.facts.number(name);
        let (abandoned, queued) = (of("lock_abandoned"), of("lock_queued"));
        let (untouched, handed) = (of("lock_untouched"), of("lock_handed_off"));
        let (expired, granted) = (of("lock_expired"), of("lock_granted"));
        let vanished = of("lock_vanished");
        let (memory, most) = (of("lock_memory_bytes"), of("lock_max_memory_bytes"));
        self.if_so(
            queued >= ENOUGH && abandoned * 5 > queued,
            Level::Fault,
            "abandoned waits",
            format!("{abandoned} of {queued}"),
            "More than a fifth of the waits end because the client is gone: its socket timeout is shorter than its wait. Wait in slices.",
        );
        self.if_so(
            handed >= ENOUGH && untouched * 100 > handed,
            Level::Fault,
            "untouched grants",
            format!("{untouched} of {handed}"),
            "Clients give up a wait without closing its connection: each such grant blocks the lock for a lease. Wait with BLOCK and QUEUE.",
        );
        self.if_so(
            granted >= ENOUGH && expired * 50 > granted,
            Level::Note,
            "expired holds",
            format!("{expired} of {granted}"),
            "Holders crash, stall or do not renew; the next one may begin while they still work. LOCK.STATS has the newest losses.",
        );
        self.if_so(
            vanished > 0,
            Level::Note,
            "vanished holds",
            vanished.to_string(),
            "Lock keys were deleted, overwritten, evicted, renamed or moved while they were held.",
        );
        self.if_so(
            most > 0 && memory * 10 > most * 8,
            Level::Fault,
            "memory of waits",
            format!("{memory} of {most} bytes"),
            "Soon waits are refused with QUEUEFULL. Look for a client that queues without end, or raise lock.max-memory-bytes.",
        );
        let Some(detection) = self.facts.config("lock.deadlock-detection").map(str::to_owned) else {
            return self.unread("lock.deadlock-detection");
        };
        self.if_so(
            detection == "no",
            Level::Note,
            "lock.deadlock-detection",
            detection,
            "Clients that wait for each other in a circle are not told, and wait until a lease or their own wait ends.",
        );
    }

    fn rights(&mut self) {
        if self.facts.info.is_none() {
            self.say(
                Level::Unknown,
                "rights",
                "no INFO",
                "This user may not run INFO: persistence, replication and figures were not looked at. Give it +info.",
            );
        }
        if self.facts.config.is_none() {
            self.say(
                Level::Unknown,
                "rights",
                "no CONFIG GET",
                "This user may not run CONFIG GET: what is a matter of settings is unknown. Give it +config|get.",
            );
        }
        let forbidden = self.facts.forbidden.join(", ");
        self.if_so(
            !forbidden.is_empty(),
            Level::Unknown,
            "rights",
            if forbidden.is_empty() { "all to look at locks".to_owned() } else { format!("no {forbidden}") },
            "An operator who looks at locks needs +lock.info +lock.waiters +lock.scan +lock.stats +latch.info +info +pttl.",
        );
    }
}

/// Clocks that are apart.
fn clocks(servers: &[Facts], found: &mut Vec<Finding>) {
    let ahead = |facts: &Facts| facts.clock_ahead_ms.map(|ms| (facts.address.clone(), ms));
    let known: Vec<_> = servers.iter().filter_map(ahead).collect();
    let (Some(first), Some(last)) =
        (known.iter().min_by_key(|(_, ms)| *ms), known.iter().max_by_key(|(_, ms)| *ms))
    else {
        return;
    };
    let apart = last.1 - first.1;
    let level = if apart > SKEW_MS { Level::Fault } else { Level::Good };
    found.push(Finding {
        level,
        check: "clocks of the servers",
        server: last.0.clone(),
        found: format!("{apart} ms ahead of {}", first.0),
        means: match level {
            Level::Fault => {
                "After a restart and in files leases are counted by the wall clock: they end early or late. Keep clocks in step with NTP."
            }
            _ => "",
        },
    });
    let here = known.iter().max_by_key(|(_, ms)| ms.abs());
    if let Some((address, ms)) = here.filter(|(_, ms)| ms.abs() > SKEW_MS) {
        found.push(Finding {
            level: Level::Note,
            check: "clock of this machine",
            server: address.clone(),
            found: format!("the server is {ms} ms ahead"),
            means: "Leases are counted by the server alone, but times in logs cannot be compared. Keep clocks in step with NTP.",
        });
    }
}

/// Servers with different versions of the module.
fn versions(servers: &[Facts], found: &mut Vec<Finding>) {
    let mut known = servers.iter().filter_map(|facts| facts.module.flatten().map(|version| (version, facts)));
    let Some((version, _)) = known.next() else { return };
    if let Some((other, facts)) = known.find(|(other, _)| *other != version) {
        found.push(Finding {
            level: Level::Note,
            check: "module versions",
            server: facts.address.clone(),
            found: format!("{other} here, {version} on {}", servers.first().map_or("", |facts| &facts.address)),
            means: "An older module may not understand what a newer one replicates. Upgrade the replicas first, then the primary.",
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD_INFO: &[(&str, &str)] = &[
        ("maxmemory", "0"),
        ("maxmemory_policy", "noeviction"),
        ("aof_enabled", "1"),
        ("aof_last_write_status", "ok"),
        ("rdb_last_bgsave_status", "ok"),
        ("redis_version", "8.2.3"),
        ("maxclients", "10000"),
        ("connected_clients", "3"),
        ("cluster_enabled", "0"),
        ("lock_granted", "1000"),
        ("lock_queued", "100"),
        ("lock_handed_off", "100"),
        ("lock_max_waiters", "9000"),
        ("lock_max_memory_bytes", "1000"),
    ];
    const GOOD_CONFIG: &[(&str, &str)] = &[
        ("appendfsync", "always"),
        ("save", ""),
        ("io-threads", "1"),
        ("tcp-keepalive", "60"),
        ("timeout", "0"),
        ("min-replicas-to-write", "0"),
        ("replica-read-only", "yes"),
        ("lock.default-lease-ms", "30000"),
        ("lock.deadlock-detection", "yes"),
    ];

    fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn good() -> Facts {
        Facts {
            address: "a".into(),
            info: Some(map(GOOD_INFO)),
            config: Some(map(GOOD_CONFIG)),
            module: Some(Some(1)),
            clock_ahead_ms: Some(0),
            mortal_locks: Some(Vec::new()),
            ..Facts::default()
        }
    }

    fn bad(servers: &[Facts]) -> Vec<(Level, &'static str)> {
        let found = examine(servers);
        assert!(found.iter().all(|finding| (finding.level == Level::Good) == finding.means.is_empty()));
        found.iter().filter(|f| f.level != Level::Good).map(|f| (f.level, f.check)).collect()
    }

    #[test]
    fn nothing_is_found_on_a_good_server() {
        assert_eq!(bad(&[good()]), []);
    }

    /// Fields of INFO and settings, and what is said of them.
    type Case = (
        &'static [(&'static str, &'static str)],
        &'static [(&'static str, &'static str)],
        Level,
        &'static str,
    );

    #[test]
    fn each_fault_is_found_and_nothing_beside() {
        use Level::{Fault, Note};
        let cases: &[Case] = &[
            (&[("maxmemory", "1"), ("maxmemory_policy", "allkeys-lru")], &[], Fault, "maxmemory-policy"),
            (&[("maxmemory_policy", "allkeys-lfu")], &[], Note, "maxmemory-policy"),
            (&[], &[("appendfsync", "no")], Fault, "persistence"),
            (&[("aof_enabled", "0")], &[], Note, "persistence"),
            (&[("aof_enabled", "0")], &[("save", "60 1")], Note, "persistence"),
            (&[("aof_last_write_status", "err")], &[], Fault, "AOF"),
            (&[("aof_last_bgrewrite_status", "err")], &[], Fault, "AOF rewrite"),
            (&[("rdb_last_bgsave_status", "err")], &[("save", "60 1")], Fault, "snapshot"),
            (&[], &[("io-threads", "3")], Fault, "io-threads"),
            (&[("connected_slaves", "1")], &[], Note, "min-replicas-to-write"),
            (&[], &[("tcp-keepalive", "0")], Fault, "tcp-keepalive"),
            (&[], &[("tcp-keepalive", "300")], Note, "tcp-keepalive"),
            (&[], &[("timeout", "60")], Note, "timeout"),
            (&[("connected_clients", "8001")], &[], Fault, "maxclients"),
            (&[("lock_waiting", "7300")], &[], Fault, "waiting clients"),
            (
                &[("cluster_enabled", "1")],
                &[("cluster-node-timeout", "30000")],
                Fault,
                "cluster-node-timeout",
            ),
            (&[("cluster_enabled", "1"), ("cluster_state", "fail")], &[], Fault, "cluster state"),
            (&[("lock_abandoned", "21")], &[], Fault, "abandoned waits"),
            (&[("lock_untouched", "2")], &[], Fault, "untouched grants"),
            (&[("lock_expired", "21")], &[], Note, "expired holds"),
            (&[("lock_vanished", "1")], &[], Note, "vanished holds"),
            (&[("lock_memory_bytes", "801")], &[], Fault, "memory of waits"),
            (&[], &[("lock.deadlock-detection", "no")], Note, "lock.deadlock-detection"),
        ];
        for (info, config, level, check) in cases {
            let mut facts = good();
            facts.info.get_or_insert_default().extend(map(info));
            facts.config.get_or_insert_default().extend(map(config));
            assert_eq!(bad(&[facts]), [(*level, *check)], "{info:?} {config:?}");
        }
        let valkey = [("valkey_version", "9.1.2"), ("redis_version", "7.2.4")];
        let mut facts = good();
        facts.info.get_or_insert_default().extend(map(&valkey));
        facts.config.get_or_insert_default().insert("io-threads".into(), "4".into());
        assert_eq!(bad(&[facts]), [], "other servers may have threads");
        for (aof, fsync) in [("1", "everysec"), ("0", "always")] {
            let mut facts = good();
            facts.info.get_or_insert_default().insert("aof_enabled".into(), aof.into());
            let threads = [("io-threads", "4"), ("appendfsync", fsync)];
            facts.config.get_or_insert_default().extend(map(&threads));
            assert!(!bad(&[facts]).contains(&(Fault, "io-threads")), "nothing was promised: {aof} {fsync}");
        }
    }

    #[test]
    fn nothing_is_said_of_settings_that_were_not_read() {
        let mut facts = Facts { config: None, ..good() };
        let checks = |facts: &Facts| {
            bad(std::slice::from_ref(facts))
                .into_iter()
                .map(|(level, check)| {
                    assert_eq!(level, Level::Unknown, "{check}");
                    check
                })
                .collect::<Vec<_>>()
        };
        let settings = ["tcp-keepalive", "timeout", "lock.deadlock-detection", "rights"];
        assert_eq!(checks(&facts), [&["persistence", "io-threads"][..], &settings].concat());
        let found = examine(&[facts.clone()]);
        let level =
            |check: &str| found.iter().find(|finding| finding.check == check).map(|finding| finding.level);
        assert_eq!(level("persistence"), Some(Level::Unknown));
        // There is no AOF, and other servers may have threads.
        facts.info.get_or_insert_default().extend(map(&[("aof_enabled", "0"), ("redis_version", "7.0.15")]));
        facts.info.get_or_insert_default().insert("connected_slaves".into(), "1".into());
        assert_eq!(checks(&facts), [&["persistence", "min-replicas-to-write"][..], &settings].concat());
        facts = Facts { is_replica: true, ..facts };
        assert_eq!(checks(&facts), [&["persistence", "replica-read-only"][..], &settings].concat());
    }

    #[test]
    fn what_is_in_order_is_told_with_its_value() {
        let found = examine(&[good()]);
        assert!(found.iter().all(|finding| !finding.found.is_empty()), "{found:?}");
        let said =
            |check: &str| found.iter().find(|finding| finding.check == check).map(|f| f.found.as_str());
        assert_eq!(said("lock.deadlock-detection"), Some("yes"));
        assert_eq!(said("time to live"), Some("no lock has one"));
    }

    #[test]
    fn what_stands_in_no_setting() {
        use Level::{Fault, Note, Unknown};
        type Change = fn(&mut Facts);
        let cases: &[(Change, Level, &str)] = &[
            (|facts| facts.module = Some(None), Fault, "module"),
            (|facts| facts.module = None, Unknown, "module"),
            (|facts| facts.mortal_locks = Some(vec!["door".into()]), Fault, "time to live"),
            (|facts| facts.renamed = vec!["EXISTS".into()], Fault, "rename-command"),
            (|facts| facts.silent_replicas = vec!["b".into()], Unknown, "replica"),
            (|facts| facts.forbidden = vec!["LOCK.STATS".into()], Unknown, "rights"),
            (|facts| facts.clock_ahead_ms = Some(-5_000), Note, "clock of this machine"),
        ];
        for (change, level, check) in cases {
            let mut facts = good();
            change(&mut facts);
            assert_eq!(bad(&[facts]), [(*level, *check)]);
        }
        let mut replica = Facts { address: "b".into(), is_replica: true, ..good() };
        replica.info.get_or_insert_default().insert("master_link_status".into(), "down".into());
        assert_eq!(bad(&[good(), replica.clone()]), [(Fault, "replica")]);
        replica = Facts { address: "b".into(), is_replica: true, clock_ahead_ms: Some(1_001), ..good() };
        assert_eq!(
            bad(&[good(), replica.clone()]),
            [(Fault, "clocks of the servers"), (Note, "clock of this machine")]
        );
        replica = Facts { module: Some(Some(2)), clock_ahead_ms: Some(0), ..replica };
        assert_eq!(bad(&[good(), replica]), [(Note, "module versions")]);
    }
}
