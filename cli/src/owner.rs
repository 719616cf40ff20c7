//! The name under which the server knows who holds: host, process, and a part that nobody else has.

use std::hash::{BuildHasher, Hasher, RandomState};

use nix::unistd::{gethostname, Pid};

/// The longest host name in it; an owner has 256 bytes at most.
const HOST: usize = 64;

/// Makes one up for this process.
pub fn name_for(process: Pid) -> String {
    let host = gethostname().unwrap_or_default();
    let host: String = host.to_string_lossy().chars().take(HOST).collect();
    // The keys of a map's hasher are random, from the system.
    format!("{host}:{process}:{:016x}", RandomState::new().build_hasher().finish())
}

/// "host:pid" of a name that was made up so; any other as it is.
pub fn short(owner: &str) -> &str {
    match owner.rsplit_once(':') {
        Some((name, random)) if random.len() == 16 && random.bytes().all(|b| b.is_ascii_hexdigit()) => name,
        _ => owner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_made_up_is_shown_without_its_random_part() {
        let name = name_for(Pid::from_raw(812));
        assert!(short(&name).ends_with(":812"), "{name}");
        assert_ne!(name_for(Pid::this()), name_for(Pid::this()));
        assert_eq!(short("alice"), "alice");
        assert_eq!(short("job:7"), "job:7");
    }
}
