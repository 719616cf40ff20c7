//! Words of MAXHOLD and MINHOLD that make no sense: refused with a reason, and without a trace.

use crate::steps::{acquire, ask, assert_changes_nothing};
use crate::support::Server;

#[test]
fn every_word_that_makes_no_sense() {
    let server = Server::start();
    acquire(&server, "k alice");
    let number = |word: &str, max: &str| format!("BADARG {word} must be a whole number from 1 to {max}");
    assert_changes_nothing(&server, || {
        for command in [
            "LOCK.ACQUIRE free bob",
            "LOCK.ACQUIRE k bob BLOCK 0",
            "LOCK.MACQUIRE bob 2 free k",
            "LOCK.STEAL k bob",
        ] {
            for (word, max) in [("MAXHOLD", "4233600000"), ("MINHOLD", "604800000")] {
                let beyond = (max.parse::<u64>().unwrap() + 1).to_string();
                for (value, text) in [
                    ("", format!("BADARG {word} needs a value")),
                    ("0", number(word, max)),
                    ("-1", number(word, max)),
                    ("1.5", number(word, max)),
                    ("long", number(word, max)),
                    (&beyond, number(word, max)),
                    ("9223372036854775808", number(word, max)),
                    (
                        &format!("5 {word} 5"),
                        format!("BADARG {word} is given twice, or beside an option that excludes it"),
                    ),
                ] {
                    let line = format!("{command} {word} {value}");
                    assert_eq!(ask(&server, &line), text.as_str(), "{line}");
                }
            }
        }
        for command in [
            "LOCK.RENEW k alice",
            "LOCK.RELEASE k alice",
            "LOCK.CHECK k alice",
            "LOCK.TRANSFER k alice bob",
            "LOCK.CONVERT k alice SHARED",
            "LOCK.MRENEW alice 5000 1 k",
        ] {
            for word in ["MAXHOLD", "MINHOLD"] {
                let line = format!("{command} {word} 5");
                let text = format!("BADARG unknown option '{word}'; see LOCK.HELP");
                assert_eq!(ask(&server, &line), text.as_str(), "{line}");
            }
        }
    });
}

#[test]
fn the_longest_of_both() {
    let server = Server::start();
    acquire(&server, "k alice MAXHOLD 4233600000 MINHOLD 604800000");
    assert!(crate::operate::shown(&server, "max-left-ms").int() > 4_233_500_000);
    // MINHOLD goes by the setting of leases, MAXHOLD does not.
    assert_eq!(ask(&server, "CONFIG SET lock.max-lease-ms 1000"), "OK");
    assert!(ask(&server, "LOCK.ACQUIRE l alice MINHOLD 1001").error().ends_with("from 1 to 1000"));
    acquire(&server, "l alice MINHOLD 1000 MAXHOLD 5000");
}
