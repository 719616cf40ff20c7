//! The table "Right?".

use super::format::{bold, not_measured, number, whole};
use super::Document;
use crate::right::Seen;
use crate::series::Outcome;
use anyhow::Result;
use std::fmt::Write;

impl Document<'_> {
    pub(super) fn right(&self, out: &mut String) -> Result<()> {
        writeln!(out, "## Right?\n")?;
        writeln!(
            out,
            "Five clients, each a process of its own, add 1 to a number in another server: take the lock, read, write,\n\
             release. Leases and sessions are one second (etcd's least is two), and whoever polls does so every 5 ms,\n\
             the clients written here with a jitter of half of it. \"Plain\" ends after {} acquisitions or {} s.\n\
             \"Killed\": in each of {} rounds of about 60 acquisitions a holder gets SIGKILL. \"Paused\": it gets SIGSTOP\n\
             between its read and its write, for 3.5 s. A lock that numbers its grants shows the number to the store\n\
             with each read and write, and the store refuses one that is older than the newest it was shown.\n",
            self.plan.right.acquisitions,
            number(self.plan.right.longest.as_secs_f64()),
            self.plan.right.rounds
        )?;
        writeln!(
            out,
            "Counts are per 100,000 acquisitions, of which as many were made as the first column says. 0 does not mean never:\n\
             0 of 190 means, with 95 % certainty, fewer than 1,600 in 100,000, and 0 of 20,000 fewer than 15.\n\n\
             - **two inside**: grants while another client was inside and its lease was not over.\n\
             - **outlived**: the same when its lease or session was over.\n\
             - **lost**: writes that were acknowledged and are not in the number.\n\
             - **refused**: late writes that the fence kept out; nothing was lost by them.\n\
             - **stuck**: nobody got the lock for 8 s. In brackets: in how many of the rounds.\n\
             - **recovery**: the longest time from a kill to the next grant.\n"
        )?;
        writeln!(
            out,
            "| Lock | acquired: plain, killed, paused | two inside | lost | killed: lost | stuck | recovery s | \
             paused: two inside | outlived | lost | refused |"
        )?;
        writeln!(out, "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")?;
        for (peer, outcomes) in &self.right.rows {
            let [plain, kill, pause] = outcomes;
            let cell = |seen: &Outcome<Seen>, value: &dyn Fn(&Seen) -> String| match seen {
                Ok(seen) => value(seen),
                Err(_) => "–".into(),
            };
            let per = |seen: &Seen, count: u64| whole(count as f64 * 1e5 / seen.acquired.max(1) as f64);
            let stuck = |s: &Seen| format!("{} ({} of {})", per(s, s.stuck), s.stuck, s.rounds);
            let acquired: Vec<_> =
                outcomes.iter().map(|seen| cell(seen, &|s| s.acquired.to_string())).collect();
            let cells = [
                acquired.join(", "),
                cell(plain, &|s| per(s, s.violations)),
                cell(plain, &|s| per(s, s.lost)),
                cell(kill, &|s| per(s, s.lost)),
                cell(kill, &stuck),
                cell(kill, &|s| if s.stuck > 0 { "never".into() } else { number(s.recovery.as_secs_f64()) }),
                cell(pause, &|s| per(s, s.violations)),
                cell(pause, &|s| per(s, s.outlived)),
                cell(pause, &|s| per(s, s.lost)),
                cell(pause, &|s| per(s, s.refused)),
            ];
            writeln!(out, "| {} | {} |", bold(*peer), cells.join(" | "))?;
        }
        writeln!(out)?;
        let failed = self
            .right
            .rows
            .iter()
            .map(|(peer, outcomes)| (peer, outcomes.iter().find_map(|o| o.as_ref().err())));
        not_measured(out, failed)
    }
}
