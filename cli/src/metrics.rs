//! The text that Prometheus reads, and what each figure is. Written here, as the figures are counted elsewhere, and the usual
//! library wants to count itself.

use std::collections::BTreeMap;

use crate::print::safe;

/// Names are cut here, so that a page stays small.
const LONGEST_NAME: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

struct Family {
    kind: Kind,
    help: &'static str,
    samples: Vec<String>,
}

/// All figures of all servers. Those of one name stand together.
#[derive(Default)]
pub(crate) struct Page(BTreeMap<String, Family>);

impl Page {
    /// Adds a sample. `suffix` is that of a part of a histogram.
    pub(crate) fn add(
        &mut self,
        (name, kind, help): (&str, Kind, &'static str),
        suffix: &str,
        labels: &[(&str, &str)],
        value: impl std::fmt::Display,
    ) {
        let family =
            self.0.entry(name.to_owned()).or_insert_with(|| Family { kind, help, samples: Vec::new() });
        let labels: Vec<_> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        family.samples.push(format!("{name}{suffix}{labels} {value}\n"));
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (name, family) in &self.0 {
            text.push_str(&format!("# HELP {name} {}\n# TYPE {name} {}\n", family.help, family.kind.word()));
            text.extend(family.samples.iter().map(String::as_str));
        }
        text
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A name of a user as the value of a label.
pub(crate) fn label(bytes: &[u8]) -> String {
    safe(bytes).chars().take(LONGEST_NAME).collect()
}

/// What a figure of INFO means, by its name there.
pub(crate) fn help(field: &str) -> &'static str {
    match field {
        "lock_held" => "Locks that are held or in cooldown.",
        "lock_latches" => "Latches.",
        "lock_waiting" => "Clients and tickets that wait for a lock.",
        "lock_tickets" => "Tickets that wait for a lock.",
        "lock_observing" => "Clients that wait in LOCK.AWAIT or LATCH.AWAIT.",
        "lock_max_waiters" => "How many clients may wait.",
        "lock_queues" => "Locks that somebody waits for.",
        "lock_longest_queue" => "How many wait for the busiest lock.",
        "lock_waiter_bytes" => "Memory of those who wait for a lock.",
        "lock_observer_bytes" => "Memory of those who wait in LOCK.AWAIT or LATCH.AWAIT.",
        "lock_loss_ledger_bytes" => "Memory of ended holds that are remembered.",
        "lock_memory_bytes" => "Memory of waits and of ended holds together.",
        "lock_max_memory_bytes" => "How much memory these may take.",
        "lock_index_bytes" => "Memory of what finds holds by their ends, names and connections.",
        "lock_lease_index_entries" => "Leases that the module keeps an eye on.",
        "lock_tied" => "Holds that are tied to a connection.",
        "lock_provisional" => "Grants just handed over, which the client may not have read yet.",
        "lock_server_events" => "Kinds of server events that the module hears of.",
        "lock_last_fence" => "The newest fence that this server has made or seen.",
        "lock_granted" => "Grants.",
        "lock_handed_off" => "Grants to somebody who waited.",
        "lock_released" => "Holds that were given back.",
        "lock_renewed" => "Renewals that found their hold.",
        "lock_expired" => "Holds that ran out.",
        "lock_closed" => "Holds that ended with their connection.",
        "lock_vanished" => "Holds that went with their key.",
        "lock_undone" => "Hand-offs taken back because the client was gone.",
        "lock_queued" => "Waits that began.",
        "lock_timed_out" => "Waits that took as long as they might.",
        "lock_superseded" => "Waits whose owner asked again elsewhere.",
        "lock_refused" => "Requests that ended with an error of the module.",
        "lock_deadlocks" => "Requests that were refused with DEADLOCK.",
        "lock_broken" => "Holds ended by LOCK.BREAK and LOCK.STEAL.",
        "lock_transferred" => "Holds handed over.",
        "lock_cancelled" => "Waits ended by LOCK.CANCEL.",
        "lock_abandoned" => "Waits whose client was gone.",
        "lock_failed" => "Waits for what was not to be had any more.",
        "lock_observed" => "Waits in LOCK.AWAIT and LATCH.AWAIT that came true.",
        "lock_unobserved" => "Waits in LOCK.AWAIT and LATCH.AWAIT that timed out.",
        "lock_unclaimed" => "Holds that tickets were given and nobody claimed.",
        "lock_untouched" => "Grants to clients that waited, of which nothing was heard again.",
        "lock_recovering_ms" => "How long nothing is granted yet after a failover.",
        "lock_reinstated" => "Holds that a failover had lost and that came back.",
        "lock_displaced" => "Holds that ended because such a one had been granted after them.",
        "lock_implausible" => {
            "Fences that were claimed after a failover and that no server can have granted."
        }
        _ => "A figure of INFO lock.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stand_together_and_labels_are_escaped() {
        let mut page = Page::default();
        for at in ["a", "b\\\"\n"] {
            page.add(("held", Kind::Gauge, "Locks."), "", &[("instance", at)], 3);
            page.add(("wait", Kind::Histogram, "Waits."), "_count", &[], 0.5);
        }
        assert_eq!(
            page.text(),
            "# HELP held Locks.\n# TYPE held gauge\nheld{instance=\"a\"} 3\nheld{instance=\"b\\\\\\\"\\n\"} 3\n\
             # HELP wait Waits.\n# TYPE wait histogram\nwait_count 0.5\nwait_count 0.5\n"
        );
        assert_eq!(label(&[b'x'; 300]).len(), LONGEST_NAME);
    }
}
