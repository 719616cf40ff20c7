//! What is measured of each change of the primary: which holds lived through it, and how long nothing was granted.

use super::{Judge, SLACK_MS};
use crate::history::{End, History};
use crate::locks::name;
use crate::node::Node;
use crate::report::Report;

/// One change of the primary, in µs of the load's clock.
pub(crate) struct Takeover {
    /// The old one was ended, or told to hand over.
    pub(crate) began: u64,
    /// The new one knew that it is a primary.
    pub(crate) promoted: u64,
    /// How much was left of its window then.
    pub(crate) window: u64,
    /// All was as before.
    pub(crate) over: u64,
}

/// What is left of a server's window, in µs.
pub(crate) fn window(node: &Node) -> u64 {
    node.ask("LOCK.RECOVERY").int().unwrap_or(0).unsigned_abs() * 1000
}

/// Tells of holds that a server ended in their lease, and of the takeover before.
fn tell_refused(history: &History, all: &[Takeover]) {
    let refused = history.spans().iter().filter(|span| span.how == End::Refused);
    for span in refused.take(10) {
        let Some(it) = all.iter().rfind(|it| it.began < span.end) else { continue };
        let after = |at: u64| at as i64 - it.began as i64;
        println!(
            "ended in its lease: {} {span:?}, µs after the primary's end: began {}, ended {}, promoted {}",
            name(span.lock),
            after(span.start),
            after(span.end),
            after(it.promoted)
        );
    }
}

/// Adds the figures. `keeps`: whether holds are to live on.
pub(crate) fn figures(report: &mut Report, history: &History, all: &[Takeover], judge: Judge, keeps: bool) {
    tell_refused(history, all);
    let fates = all.iter().map(|it| history.fate(it.began, it.promoted, it.over));
    let (held, lost) = fates.fold((0, 0), |sum, fate| (sum.0 + fate.0, sum.1 + fate.1));
    let kept = 100.0 * (held - lost) as f64 / held.max(1) as f64;
    let (what, figure) = ("holds kept of those that stood then", format!("{kept:.2} % of {held}"));
    if keeps && judge == Judge::All {
        report.aim(what, figure, "≥ 99 %", kept >= 99.0);
    } else {
        report.say(what, figure);
    }

    let millis = |micros: u64| micros as f64 / 1000.0;
    let longest = |of: &dyn Fn(&Takeover) -> u64| millis(all.iter().map(of).max().unwrap_or(0));
    let gap = |it: &Takeover| history.longest_gap(it.began, it.over.max(it.promoted + it.window) + 1_000_000);
    report.say("until promoted, longest, ms", format!("{:.1}", longest(&|it| it.promoted - it.began)));
    report.say("window, longest, ms", format!("{:.0}", longest(&|it| it.window)));
    report.say("time without grants, longest, ms", format!("{:.0}", longest(&gap)));
    let beyond = longest(&|it| gap(it).saturating_sub(it.promoted - it.began + it.window));
    let (what, figure) = ("of that, beyond promotion and window, ms", format!("{beyond:.0}"));
    if judge == Judge::All {
        report.aim(what, figure, &format!("≤ {SLACK_MS}"), beyond <= SLACK_MS);
    } else {
        report.say(what, figure);
    }
}
