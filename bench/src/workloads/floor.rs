//! The cost of a pair and of a hand-off in all of the server, beside the least module that does the same (`floor.c`)
//! and the server's own ways. How far above the least module we are is gated: what the processor and the C library make
//! of the server's own code is on both sides of it.

use super::ring::Ring;
use crate::callgrind::{self, Counted, Counts};
use crate::peers::{owner, Peer, Scripts};
use crate::report::{align_right, new_table, Aim, Report};
use crate::server::Launch;
use crate::setting::Setting;
use anyhow::{ensure, Context, Result};
use redis::{Connection, Value};

const TITLE: &str = "floor";
const CLIENTS: usize = 50;
/// In a batch of each client: 32 commands.
const BATCH: usize = 16;
const BATCHES: usize = 6;
const PAIRS: usize = CLIENTS * BATCH * BATCHES;
const CROWDS: [usize; 3] = [2, 16, 1_000];
const HAND_OFFS: usize = 2_000;
const AOF: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "everysec"];

/// Most instructions above the least module: what was measured last, and a fiftieth of the whole; for a hand-off a
/// twentieth, as it is the machine that decides how many turns of its loop the server takes for one. The cost of a
/// hand-off in the module itself is held to a fiftieth by `instructions`.
struct Budget {
    server: &'static str,
    pair: f64,
    hand_offs: [f64; CROWDS.len()],
}

const BUDGETS: [Budget; 3] = [
    Budget { server: "Redis 7.0", pair: 1_480.0, hand_offs: [17_280.0, 17_890.0, 18_680.0] },
    Budget { server: "Redis 8.2", pair: 1_355.0, hand_offs: [16_100.0, 16_745.0, 17_725.0] },
    Budget { server: "Valkey 9.1", pair: 1_650.0, hand_offs: [17_340.0, 17_685.0, 18_620.0] },
];

/// Does the work on such a server, and tells the instructions of each piece.
type Work = Box<dyn Fn(&Launch, Peer) -> Result<f64>>;

/// A kind of work, under its title, and who does it.
struct Case {
    title: String,
    peers: &'static [Peer],
    /// Most instructions of ours above the floor's.
    budget: Option<f64>,
    work: Work,
}

pub(crate) fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    let missing = if callgrind::is_there() { None } else { Some("no valgrind here") };
    if let Some(reason) = missing.or((!setting.has_module()).then_some("no module")) {
        report.skip(TITLE, "instructions above the least module", Aim::None, reason);
        return Ok(());
    }
    let floor = setting.floor.clone().context("the least module was not built")?;
    // The cron comes seldom, and is not counted.
    let ours = setting.server().with(&["--hz", "1", "--dynamic-hz", "no", "--maxclients", "4000"]);
    let least = Launch { modules: vec![floor], ..ours.clone() };
    let bare = Launch { modules: Vec::new(), ..ours.clone() };
    let name = bare.start()?.name()?;
    let budget = BUDGETS.iter().find(|budget| name.starts_with(budget.server));

    let header = ["instructions of the server", "peer", "each", "ours / theirs", "ours above it", "budget"];
    let mut table = new_table(header);
    (2..header.len()).for_each(|column| align_right(&mut table, column));
    for case in cases(budget).into_iter().filter(|case| !setting.gate || case.budget.is_some()) {
        let mut of_ours = None;
        let wanted = |peer: Peer| match peer {
            Peer::Lock | Peer::Guard | Peer::Floor => true,
            Peer::SetDelifeq => !setting.gate && name.starts_with("Valkey"),
            _ => !setting.gate,
        };
        for &peer in case.peers.iter().filter(|peer| wanted(**peer)) {
            let launch = match peer {
                Peer::Lock | Peer::Guard => &ours,
                Peer::Floor => &least,
                _ => &bare,
            };
            let each = (case.work)(launch, peer)?;
            let ours = *of_ours.get_or_insert(each);
            let budget = case.budget.filter(|_| peer == Peer::Floor);
            #[expect(clippy::float_cmp, reason = "ours is this very figure in the first row")]
            let [ratio, above] = if each == ours {
                Default::default()
            } else {
                [format!("{:.2}", ours / each), format!("{:.0}", ours - each)]
            };
            let most = budget.map_or(String::new(), |budget| format!("{budget}"));
            table.add_row([case.title.clone(), peer.to_string(), format!("{each:.0}"), ratio, above, most]);
            if let Some(budget) = budget {
                let metric = format!("{}: instructions above the least module", case.title);
                report.check(TITLE, &metric, Aim::AtMost(budget), &[ours - each]);
            }
        }
    }
    println!("\n## {TITLE}, {name}, {CLIENTS} clients, pipeline {}\n\n{table}", BATCH * 2);
    Ok(())
}

fn cases(budget: Option<&Budget>) -> Vec<Case> {
    let mut cases = vec![Case {
        title: "pair".to_owned(),
        peers: &[Peer::Lock, Peer::Floor, Peer::SetDel, Peer::SetDelifeq, Peer::SetEval, Peer::Ping],
        budget: budget.map(|budget| budget.pair),
        work: Box::new(|launch, peer| pairs(launch, peer, |_| Ok(()))),
    }];
    cases.extend(CROWDS.iter().enumerate().map(|(n, &clients)| Case {
        title: format!("hand-off among {clients}"),
        // So many who wait for a list make each push on Valkey cost millions.
        peers: if clients < 1_000 {
            &[Peer::Lock, Peer::Floor, Peer::Blpop]
        } else {
            &[Peer::Lock, Peer::Floor]
        },
        budget: budget.and_then(|budget| budget.hand_offs.get(n).copied()),
        work: Box::new(move |launch, peer| hand_offs(launch, peer, clients)),
    }));
    cases.extend(more());
    cases
}

/// The cases that have no least module beside them.
fn more() -> Vec<Case> {
    vec![
        Case {
            title: "pair, AOF everysec".to_owned(),
            peers: &[Peer::Lock, Peer::SetDel, Peer::SetEval],
            budget: None,
            work: Box::new(|launch, peer| pairs(&launch.with(&AOF), peer, |_| Ok(()))),
        },
        Case {
            title: "two guarded writes".to_owned(),
            peers: &[Peer::Guard, Peer::EvalGuard],
            budget: None,
            work: Box::new(|launch, peer| pairs(launch, peer, hold)),
        },
    ]
}

/// The instructions that a pair makes the server execute, once its tables have grown.
fn pairs(launch: &Launch, peer: Peer, first: impl Fn(&mut Connection) -> Result<()>) -> Result<f64> {
    let mut counted = Counted::start(launch)?;
    let mut control = counted.server().control()?;
    let scripts = Scripts::load(&mut control)?;
    first(&mut control)?;
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let pairs = (0..BATCH)
            .map(|n| peer.pair(&format!("lock:{:06}", client * BATCH + n), &owner(client), &scripts));
        let batch: Vec<u8> = pairs.flat_map(|pair| [pair.acquire, pair.release].concat()).collect();
        clients.push((counted.server().control()?, batch));
    }
    batches(&mut clients)?;
    let counts = counted.count(|| batches(&mut clients))?;
    Ok(each(&counts, PAIRS))
}

fn batches(clients: &mut [(Connection, Vec<u8>)]) -> Result<()> {
    for _ in 0..BATCHES {
        for (client, batch) in &mut *clients {
            client.send_packed_command(batch)?;
        }
        for (client, _) in &mut *clients {
            for _ in 0..BATCH * 2 {
                ensure!(client.recv_response()? != Value::Nil, "a free lock was refused");
            }
        }
    }
    Ok(())
}

/// The locks under which the clients write, for a module's guard and for a script.
fn hold(control: &mut Connection) -> Result<()> {
    for owner in (0..CLIENTS).map(owner) {
        redis::cmd("SET").arg(Peer::EvalGuard.held_by(&owner)).arg(&owner).exec(control)?;
        // Refused by a server without the module.
        let lock = Peer::Guard.held_by(&owner);
        let _ = redis::cmd("LOCK.ACQUIRE").arg(lock).arg(&owner).arg("NOEXPIRE").exec(control);
    }
    Ok(())
}

fn hand_offs(launch: &Launch, peer: Peer, clients: usize) -> Result<f64> {
    let mut counted = Counted::start(launch)?;
    let mut ring = Ring::gather(counted.server(), peer, clients)?;
    ring.turn(clients)?;
    let counts = counted.count(|| ring.turn(HAND_OFFS))?;
    Ok(each(&counts, HAND_OFFS))
}

fn each(counts: &Counts, many: usize) -> f64 {
    counts.less_cron() as f64 / many as f64
}
