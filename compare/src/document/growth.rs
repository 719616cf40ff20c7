//! What stays as it is when there are more locks, and what they cost in memory.

use super::format::{bold, not_measured, number};
use super::Document;
use crate::growth::{Growth, SIZES};
use crate::log::Sample;
use crate::plot::GROWTH;
use anyhow::Result;
use std::fmt::Write;

impl Document<'_> {
    pub(super) fn growth(&self, out: &mut String) -> Result<()> {
        let (file, caption) = GROWTH;
        let grown =
            || self.fast.growth.iter().filter_map(|(peer, growth)| Some((*peer, growth.as_ref().ok()?)));
        let heads = SIZES.map(|size| number(size as f64)).join(" | ");
        let dashes = "--:|".repeat(SIZES.len());
        writeln!(
            out,
            "### Growth\n\n{}While so many locks are held, 16 clients take and give back free ones. One client takes the held ones, \
             many in one go if it can;\na lock that needs more than {} s for that stops there. Pairs/s:\n\n\
             | Lock | {heads} |\n|---|{dashes}",
            if self.plots { format!("![{caption}](comparison/{file}.svg)\n\n") } else { String::new() },
            self.plan.growth.patience.as_secs()
        )?;
        self.steps(out, |sample| sample.acquired)?;
        writeln!(out, "\nServer CPU ms per 1,000 pairs:\n\n| Lock | {heads} |\n|---|{dashes}")?;
        self.steps(out, |sample| sample.cpu_ms)?;
        writeln!(out)?;
        for (peer, growth) in grown() {
            if let Some(reason) = &growth.stopped {
                writeln!(out, "- {peer} stopped {reason}.")?;
            }
        }
        not_measured(out, self.fast.growth.iter().map(|(peer, growth)| (peer, growth.as_ref().err())))?;
        writeln!(
            out,
            "### Memory in the servers\n\nGrowth of the resident memory (ZooKeeper: of the live heap) on servers on \
             which nothing was done before:\nfor the most locks held above, for {} connections, and for as many waits. \
             –: too little to measure, or\nnothing that the server knows of.\n\n\
             | Lock | bytes per held lock | per connection | per waiting client on top |\n|---|--:|--:|--:|",
            self.plan.growth.clients
        )?;
        let cell = |value: Option<f64>| value.map_or("–".into(), number);
        for (peer, growth) in grown() {
            let cells = [growth.held, growth.connection, growth.waiter].map(cell).join(" | ");
            writeln!(out, "| {} | {cells} |", bold(peer))?;
        }
        Ok(writeln!(out)?)
    }

    fn steps(&self, out: &mut String, value: fn(&Sample) -> f64) -> Result<()> {
        for (peer, growth) in &self.fast.growth {
            let Ok(Growth { steps, .. }) = growth else { continue };
            let at = |size| steps.iter().find(|(of, _)| *of == size).map(|(_, sample)| value(sample));
            let cells = SIZES.map(|size| at(size).map_or("–".into(), number)).join(" | ");
            writeln!(out, "| {} | {cells} |", bold(*peer))?;
        }
        Ok(())
    }
}
