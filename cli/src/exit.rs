//! With which code the program ends, and why: the table that scripts go by.

use std::process::ExitCode;

use redis::RedisError;

/// A code between 0 and 255 for the parent process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    pub const OK: Self = Self(0);
    /// `doctor` has found a fault; there was nothing to end, or the user said no.
    pub const FAULT: Self = Self(1);
    /// The command line, or a request that the server refuses as it stands.
    pub const USAGE: Self = Self(64);
    /// No server, or one without the module.
    pub const NO_SERVER: Self = Self(69);
    /// Something of this machine fails: a process, a file, a terminal.
    pub const SYSTEM: Self = Self(71);
    /// Somebody else has the lock, or had it for as long as was to be waited.
    pub const NOT_GOT: Self = Self(75);
    /// The lock was held and is not held any more.
    pub const LOST: Self = Self(76);
    pub const NO_PERMISSION: Self = Self(77);
    /// As shells say it: the command is there and cannot be run.
    pub const CANNOT_RUN: Self = Self(126);
    /// As shells say it: there is no such command.
    pub const NOT_FOUND: Self = Self(127);

    /// As shells say it: ended by this signal.
    pub fn by_signal(signal: i32) -> Self {
        Self(u8::try_from(128 + signal).unwrap_or(u8::MAX))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

/// The end of the program without what was asked for: a line for the user, and the code.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub exit: Exit,
    pub text: String,
}

/// Options that are spans of time.
const TIMES: [&str; 4] = ["--lease", "--max-hold", "--min-hold", "--tied"];

pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    /// The same failure in the words of the command line, where the server speaks of a word of its own: pairs of both.
    pub(crate) fn naming(self, options: &[(&str, &str)]) -> Self {
        let about = self.text.strip_prefix("BADARG ").unwrap_or_default();
        let Some((_, option)) = options
            .iter()
            .find(|(word, _)| about.strip_prefix(word).is_some_and(|rest| rest.starts_with(' ')))
        else {
            return self;
        };
        // Times are counted in ms there, and written in many ways here.
        let longest = about
            .rsplit_once(" must be a whole number from ")
            .and_then(|(_, range)| range.split_once(" to "));
        let text = match longest.and_then(|(_, most)| most.parse().ok()) {
            Some(most) if TIMES.contains(option) => {
                format!("{option} must be {} at most ({})", crate::time::for_people(most), self.text)
            }
            _ => format!("{option}: {}", self.text),
        };
        Self::new(self.exit, text)
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::USAGE, text)
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        if crate::connect::is_broken(&error) {
            return Self::new(Exit::NO_SERVER, format!("no server: {error}"));
        }
        let code = error.code().unwrap_or_default();
        let detail = error.detail().unwrap_or_default();
        let exit = match code {
            _ if error.kind() == redis::ErrorKind::AuthenticationFailed => {
                return Self::new(Exit::NO_PERMISSION, "the server refuses the user or the password");
            }
            "NOAUTH" => {
                let text = "the server wants a password, and the URL has none: redis://user:password@host";
                return Self::new(Exit::NO_PERMISSION, text);
            }
            "NOPERM" | "WRONGPASS" => Exit::NO_PERMISSION,
            "DEADLOCK" | "QUEUEFULL" | "RECOVERING" => Exit::NOT_GOT,
            "NOTHELD" | "STALEFENCE" => Exit::LOST,
            "ERR" if detail.starts_with("unknown command") => {
                return Self::new(Exit::NO_SERVER, "the server has not loaded the redis-lock module");
            }
            "BADARG" | "LOCKMODE" | "LOCKLIMIT" | "CROSSSLOT" | "WRONGTYPE" | "ERR" => Exit::USAGE,
            _ => Exit::NO_SERVER,
        };
        let text = match (code, detail) {
            ("CROSSSLOT", _) => {
                "CROSSSLOT in a cluster, locks that are taken together need the same {tag}: {job}a {job}b"
                    .to_owned()
            }
            ("", _) | (_, "") => error.to_string(),
            (code, detail) => format!("{code} {detail}"),
        };
        Self::new(exit, text)
    }
}

impl From<fencelock::Error> for Failure {
    fn from(error: fencelock::Error) -> Self {
        match error {
            fencelock::Error::Redis(error) => error.into(),
            fencelock::Error::Deadlock(cycle) => Self::new(Exit::NOT_GOT, format!("DEADLOCK {cycle}")),
            error => Self::new(Exit::NOT_GOT, error.to_string()),
        }
    }
}

/// For what fails on this machine.
pub(crate) trait OrSystem<T> {
    fn or_system(self, doing: &str) -> Outcome<T>;
}

impl<T, E: std::fmt::Display> OrSystem<T> for Result<T, E> {
    fn or_system(self, doing: &str) -> Outcome<T> {
        self.map_err(|error| Failure::new(Exit::SYSTEM, format!("cannot {doing}: {error}")))
    }
}
